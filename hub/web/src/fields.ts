// Objects as lists of fields, to say what changed. Pure.

export type FieldValue = { path: string; value: string };

/** fieldsOf flattens an object: "spec.approval.decision" and its JSON. */
export function fieldsOf(v: unknown, path = ""): FieldValue[] {
  if (typeof v !== "object" || v === null) return [{ path, value: JSON.stringify(v) ?? "" }];
  const entries = Array.isArray(v) ? v.map((x, i) => [`[${i}]`, x] as const) : Object.entries(v).map(([k, x]) => [/^[\w-]+$/.test(k) ? (path ? "." : "") + k : `["${k}"]`, x] as const);
  if (entries.length === 0) return [{ path, value: Array.isArray(v) ? "[]" : "{}" }];
  return entries.flatMap(([k, x]) => fieldsOf(x, path + k));
}
