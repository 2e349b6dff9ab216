/** Whether a connection string carries a password, in either of libpq's two notations. */
export function hasPassword(dsn: string): boolean {
  const text = dsn.trim();
  if (/^postgres(ql)?:\/\//i.test(text)) {
    const authority = text.replace(/^[a-z]+:\/\//i, "").split(/[/?#]/)[0] ?? "";
    const user = authority.includes("@") ? authority.slice(0, authority.lastIndexOf("@")) : "";
    return user.includes(":") || /[?&](password|sslpassword)=/i.test(text);
  }
  return /(^|\s)(password|sslpassword)\s*=/i.test(text);
}

/** Why a text cannot be a repository's address; null when it may be one. */
export function urlProblem(text: string): string | null {
  const url = text.trim();
  if (url === "") return "Enter a folder or a URL.";
  const scheme = /^([a-z][a-z0-9+.-]*):\/\//i.exec(url)?.[1]?.toLowerCase();
  if (scheme !== undefined && !["file", "s3", "gs", "az"].includes(scheme))
    return `${scheme}:// is not supported. Use a folder, file://, s3://, gs:// or az://.`;
  if (scheme !== undefined && /^[a-z][a-z0-9+.-]*:\/\/[^/]*@/i.test(url))
    return "Credentials do not belong in the URL. They are read as the provider's own tools read them.";
  return null;
}

/** Why a text cannot be a cluster's name; null when it can. */
export function nameProblem(text: string, taken: readonly string[]): string | null {
  const name = text.trim();
  if (name === "") return "Give it a name.";
  if (name.length > 63 || !/^[A-Za-z0-9._-]+$/.test(name))
    return "Use up to 63 letters, digits, dots, dashes and underscores.";
  if (taken.includes(name)) return "There is a cluster of that name already.";
  return null;
}
