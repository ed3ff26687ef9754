// The filter language: words that all must hold.
//
//   text            somewhere in the name, the reason or a label's value
//   phase:Offline   a field; several values with commas, any of them
//   version:<1.3    compared as versions, cpu:>80 as numbers
//   region=eu       a label, region!=eu, region=eu,us
//   -word  !word    not so
//
// Values with blanks are put in quotes. Pure.

import { compareVersions } from "./format";

export type Field = (row: never) => string | number | null | undefined;
export type Shape<R> = {
  text: (row: R) => string[];
  labels?: (row: R) => Record<string, string> | undefined;
  fields: Record<string, (row: R) => string | number | null | undefined>;
};

export type Term =
  | { kind: "text"; not: boolean; value: string }
  | { kind: "field"; not: boolean; name: string; op: string; values: string[] }
  | { kind: "label"; not: boolean; name: string; values: string[] };

export type Parsed = { terms: Term[]; problem?: string };

/** words splits at blanks outside quotes. */
export function words(text: string): string[] {
  const out: string[] = [];
  let word = "", quoted = false, any = false;
  for (const c of text) {
    if (c === '"') {
      quoted = !quoted;
      any = true;
    } else if (/\s/.test(c) && !quoted) {
      if (word || any) out.push(word);
      word = "";
      any = false;
    } else word += c;
  }
  if (word || any) out.push(word);
  return out;
}

export function parse(text: string, fields: string[]): Parsed {
  const terms: Term[] = [];
  let problem: string | undefined;
  for (let w of words(text)) {
    let not = false;
    if (w.length > 1 && (w[0] === "-" || w[0] === "!")) {
      not = true;
      w = w.slice(1);
    }
    const field = /^([a-zA-Z][\w-]*):(<=|>=|<|>|=)?(.*)$/s.exec(w);
    if (field) {
      const name = field[1]!.toLowerCase(), value = field[3]!;
      if (!fields.includes(name)) problem = `“${field[1]}:” is no field. Fields are ${fields.join(", ")}.`;
      else if (value !== "") terms.push({ kind: "field", not, name, op: field[2] ?? "", values: value.split(",").filter(Boolean) });
      continue;
    }
    const label = /^([^=!<>]+?)(!?=)(.*)$/s.exec(w);
    if (label) {
      terms.push({ kind: "label", not: not !== (label[2] === "!="), name: label[1]!, values: label[3]!.split(",") });
      continue;
    }
    if (w) terms.push({ kind: "text", not, value: w.toLowerCase() });
  }
  return problem ? { terms, problem } : { terms };
}

const equal = (have: string, want: string): boolean => have.toLowerCase() === want.toLowerCase();

function compared(have: string | number, op: string, want: string): boolean {
  const n = typeof have === "number" ? have - Number(want) : compareVersions(have, want);
  if (Number.isNaN(n)) return false;
  switch (op) {
    case "<": return n < 0;
    case ">": return n > 0;
    case "<=": return n <= 0;
    case ">=": return n >= 0;
    default: return n === 0;
  }
}

function holds<R>(t: Term, row: R, shape: Shape<R>): boolean {
  switch (t.kind) {
    case "text":
      return shape.text(row).some((s) => s.toLowerCase().includes(t.value));
    case "label": {
      const have = shape.labels?.(row)?.[t.name];
      return have !== undefined && t.values.some((v) => v === "*" || equal(have, v));
    }
    case "field": {
      const have = shape.fields[t.name]!(row);
      if (have === null || have === undefined || have === "") return false;
      return t.values.some((v) => {
        if (t.op) return compared(have, t.op, v);
        if (typeof have === "number") return have === Number(v);
        const text = have.toLowerCase(), want = v.toLowerCase();
        return want.endsWith("*") ? text.startsWith(want.slice(0, -1)) : text === want || text.replace(/^v/, "") === want;
      });
    }
  }
}

/** matcher is the filter as a function of a row. */
export function matcher<R>(p: Parsed, shape: Shape<R>): (row: R) => boolean {
  return (row) => p.terms.every((t) => holds(t, row, shape) !== t.not);
}

/** toggle puts a field's value into the text of a filter, or takes it out. */
export function toggle(text: string, name: string, value: string): string {
  const list = text.match(/(?:[^\s"]|"[^"]*")+/g) ?? [];
  const prefix = name + ":";
  const at = list.findIndex((w) => w.startsWith(prefix));
  const quoted = /\s/.test(value) ? `"${value}"` : value;
  if (at < 0) return [prefix + quoted, ...list].join(" ");
  if (list[at] === prefix + quoted) list.splice(at, 1);
  else list[at] = prefix + quoted;
  return list.join(" ");
}

/** only is the value that the filter's text gives a field, if it is one. */
export function only(text: string, name: string): string {
  const w = words(text).find((x) => x.startsWith(name + ":"));
  return w ? w.slice(name.length + 1) : "";
}
