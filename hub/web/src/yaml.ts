// Manifests as YAML for reading, and the secret parts of them hidden. Pure.

const PLAIN = /^[A-Za-z_/][\w./@+-]*(?: [\w./@+()-]+)*$/;
const WORD = /^(?:true|false|null|yes|no|on|off|y|n|~)$/i;

function scalar(v: unknown): string {
  if (v === null || v === undefined) return "null";
  if (typeof v !== "string") return String(v);
  return PLAIN.test(v) && !WORD.test(v) ? v : JSON.stringify(v);
}

const compound = (v: unknown): v is object => typeof v === "object" && v !== null && (Array.isArray(v) ? v.length > 0 : Object.keys(v).length > 0);

/** lines of a value, indented by depth. */
function lines(v: unknown, depth: string, out: string[]): void {
  if (Array.isArray(v)) {
    for (const item of v) {
      if (!compound(item)) {
        out.push(depth + "- " + leaf(item, depth));
        continue;
      }
      const inner: string[] = [];
      lines(item, depth + "  ", inner);
      inner[0] = depth + "- " + inner[0]!.slice(depth.length + 2);
      out.push(...inner);
    }
    return;
  }
  for (const [k, item] of Object.entries(v as object)) {
    const key = depth + scalar(k) + ":";
    if (compound(item)) {
      out.push(key);
      lines(item, Array.isArray(item) ? depth : depth + "  ", out);
    } else out.push(key + " " + leaf(item, depth));
  }
}

function leaf(v: unknown, depth: string): string {
  if (Array.isArray(v)) return "[]";
  if (typeof v === "object" && v !== null) return "{}";
  if (typeof v === "string" && v.includes("\n") && !/[\t\r]| $/m.test(v)) {
    const chomp = v.endsWith("\n") ? "|" : "|-";
    return [chomp, ...v.replace(/\n$/, "").split("\n").map((l) => (l ? depth + "  " + l : ""))].join("\n");
  }
  return scalar(v);
}

export function yaml(v: unknown): string {
  if (!compound(v)) return leaf(v, "");
  const out: string[] = [];
  lines(v, "", out);
  return out.join("\n");
}

type Manifest = { kind?: string; apiVersion?: string; data?: Record<string, unknown>; stringData?: Record<string, unknown> };

/** masked hides the values of Secrets. */
export function masked(m: unknown): unknown {
  const o = m as Manifest;
  if (o?.kind !== "Secret" || (o.apiVersion ?? "v1") !== "v1") return m;
  const hide = (d: Record<string, unknown> | undefined) => d && Object.fromEntries(Object.keys(d).map((k) => [k, "(hidden)"]));
  return { ...o, ...(o.data ? { data: hide(o.data) } : {}), ...(o.stringData ? { stringData: hide(o.stringData) } : {}) };
}

/** documents are manifests as one text. */
export const documents = (list: unknown[]): string => list.map((m) => yaml(masked(m))).join("\n---\n");
