import { Link, type LinkProps } from "@tanstack/react-router";
import { LoaderCircle, type LucideIcon } from "lucide-react";
import type { ButtonHTMLAttributes, ReactNode, Ref } from "react";

export type Look = "primary" | "secondary" | "quiet" | "danger";
type Size = "medium" | "small";

const LOOKS: Record<Look, string> = {
  primary: "bg-accent text-on-accent border-transparent hover:bg-accent-strong",
  secondary: "bg-surface text-ink border-line-strong/60 hover:border-line-strong hover:bg-sunken",
  quiet: "bg-transparent text-ink-2 border-transparent hover:bg-sunken hover:text-ink",
  danger: "bg-danger text-on-accent border-transparent hover:bg-danger-strong",
};

const SIZES: Record<Size, string> = {
  medium: "min-h-9 px-3.5 py-1.5",
  small: "min-h-7 px-2.5 py-0.5 text-small",
};

export function buttonClass(look: Look = "secondary", size: Size = "medium", extra = ""): string {
  return [
    "inline-flex items-center justify-center gap-2 rounded-md border font-medium leading-tight text-center",
    "transition-colors disabled:opacity-55 disabled:cursor-not-allowed aria-disabled:opacity-55",
    LOOKS[look],
    SIZES[size],
    extra,
  ].join(" ");
}

interface ButtonProps extends ButtonHTMLAttributes<HTMLButtonElement> {
  look?: Look;
  size?: Size;
  icon?: LucideIcon;
  busy?: boolean;
  ref?: Ref<HTMLButtonElement>;
}

export function Button({
  look,
  size,
  icon: Icon,
  busy,
  className = "",
  children,
  disabled,
  ...rest
}: ButtonProps) {
  return (
    <button
      type="button"
      {...rest}
      disabled={disabled || busy}
      aria-busy={busy || undefined}
      className={buttonClass(look, size, className)}
    >
      {busy ? (
        <LoaderCircle aria-hidden className="size-4 shrink-0 animate-spin" />
      ) : (
        Icon && <Icon aria-hidden className="size-4 shrink-0" />
      )}
      {children}
    </button>
  );
}

interface ButtonLinkProps {
  to: LinkProps["to"];
  params?: Record<string, string>;
  search?: Record<string, string | undefined>;
  look?: Look;
  size?: Size;
  icon?: LucideIcon;
  className?: string;
  children: ReactNode;
}

/** A link that looks like a button: it only ever navigates. */
export function ButtonLink({ look, size, icon: Icon, className, children, ...link }: ButtonLinkProps) {
  return (
    <Link {...(link as LinkProps)} className={buttonClass(look, size, className)}>
      {Icon && <Icon aria-hidden className="size-4 shrink-0" />}
      {children}
    </Link>
  );
}
