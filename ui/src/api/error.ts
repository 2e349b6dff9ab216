import type { ErrorObject } from "./bindings";

/** A refused or failed command; carries the product's error object as it crossed the boundary. */
export class ApiError extends Error {
  readonly object: ErrorObject;

  constructor(object: ErrorObject) {
    super(object.message);
    this.name = "ApiError";
    this.object = object;
  }
}

function isErrorObject(value: unknown): value is ErrorObject {
  if (typeof value !== "object" || value === null) return false;
  const candidate = value as Record<string, unknown>;
  return typeof candidate.code === "string" && typeof candidate.message === "string";
}

/** Reads whatever was thrown or answered as an error object; never loses the text of it. */
export function toErrorObject(value: unknown): ErrorObject {
  if (value instanceof ApiError) return value.object;
  if (typeof value === "object" && value !== null && "error" in value) {
    const inner = (value as { error: unknown }).error;
    if (isErrorObject(inner)) return toErrorObject(inner);
  }
  if (isErrorObject(value)) {
    return {
      code: value.code,
      message: value.message,
      hint: value.hint ?? null,
      retryable: value.retryable === true,
      details: value.details ?? null,
    };
  }
  const message = value instanceof Error ? value.message : typeof value === "string" ? value : String(value);
  return { code: "unexpected", message, hint: null, retryable: false, details: null };
}
