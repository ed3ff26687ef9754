// Phase changes for screen readers: gathered, and told at most every ten seconds.

import { signal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { plural } from "../format";
import { tables } from "../rows";

const said = signal("");
const PAUSE = 10_000;

/** news is what changed, in one sentence. */
export function news(changes: [name: string, phase: string][]): string {
  if (changes.length === 0) return "";
  const first = changes.slice(0, 3).map(([n, p]) => `${n} is ${p}`).join(", ");
  return first + (changes.length > 3 ? `, and ${plural(changes.length - 3, "more cluster")} changed` : "") + ".";
}

export function Announcer() {
  useEffect(() => {
    const known = new Map<string, string>();
    const changed = new Map<string, string>();
    let timer = 0;
    const tell = () => {
      timer = 0;
      said.value = news([...changed]);
      changed.clear();
    };
    const stop = tables.clusters.table.tick.subscribe(() => {
      for (const [name, s] of tables.clusters.table.rows) {
        const phase = s.peek().phase, before = known.get(name);
        if (before !== undefined && before !== phase) changed.set(name, phase);
        known.set(name, phase);
      }
      if (changed.size && !timer) timer = window.setTimeout(tell, PAUSE);
    });
    return () => {
      stop();
      clearTimeout(timer);
    };
  }, []);
  return <span class="sr" role="status" aria-live="polite">{said.value}</span>;
}
