// Labels as tags, and the box to write them.

import { useId } from "preact/hooks";
import { natural } from "../format";

/** hidden labels are kept by the hub itself and say nothing to people. */
const hidden = (key: string): boolean => /open-cluster-management\.io\//.test(key);

export function Labels({ labels, most = 50, all }: { labels: Record<string, string> | undefined; most?: number; all?: boolean }) {
  const list = Object.entries(labels ?? {}).filter(([k]) => all || !hidden(k)).sort(([a], [b]) => natural(a, b));
  if (list.length === 0) return <span class="faint">–</span>;
  return (
    <span class="tags">
      {list.slice(0, most).map(([k, v]) => <a key={k} class="tag" href={"/?q=" + encodeURIComponent(`${k}=${v}`)} title={`Clusters with ${k}=${v}`}><span>{k}</span>{v && <span>{v}</span>}</a>)}
      {list.length > most && <span class="dim small" title={list.slice(most).map(([k, v]) => `${k}=${v}`).join(", ")}>+{list.length - most}</span>}
    </span>
  );
}

export const written = (labels: Record<string, string> | undefined): string =>
  Object.entries(labels ?? {}).sort(([a], [b]) => natural(a, b)).map(([k, v]) => (v ? `${k}=${v}` : k + "=")).join("\n");

const KEY = /^([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?\/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$/;
const VALUE = /^([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?$/;

/** read takes one label a line, or several with commas or blanks; problem names the first wrong one. */
export function read(text: string): { labels: Record<string, string>; problem?: string } {
  const labels: Record<string, string> = {};
  for (const part of text.split(/[\s,]+/).filter(Boolean)) {
    const i = part.indexOf("=");
    const key = i < 0 ? part : part.slice(0, i), value = i < 0 ? "" : part.slice(i + 1);
    if (i < 0) return { labels, problem: `“${part}”: want key=value` };
    if (!KEY.test(key)) return { labels, problem: `“${key}” cannot be a label's key: letters, digits, '-', '_' and '.', at most 63, after an optional domain/` };
    if (!VALUE.test(value)) return { labels, problem: `“${value}” cannot be the value of ${key}: letters, digits, '-', '_' and '.', at most 63` };
    labels[key] = value;
  }
  return { labels };
}

export function LabelsField({ text, change, label = "Labels", help }: { text: string; change: (text: string) => void; label?: string; help?: string }) {
  const id = useId();
  const { problem } = read(text);
  return (
    <div class="field">
      <label for={id}>{label}</label>
      <textarea id={id} class="input mono" rows={Math.max(3, text.split("\n").length + 1)} value={text} spellcheck={false} placeholder={"env=prod\nregion=eu"} aria-invalid={problem ? "true" : undefined} aria-describedby={id + "-help"}
        onInput={(e) => change(e.currentTarget.value)} />
      <span id={id + "-help"} class={problem ? "wrong" : "help"}>{problem ?? help ?? "One key=value a line."}</span>
    </div>
  );
}
