// The fleet as a map: one cell a cluster. A cell draws itself alone when its cluster
// changes. What is well is quiet; what is not has a colour and a mark.

import type { Signal } from "@preact/signals";
import { useRef } from "preact/hooks";
import { count, plural } from "../format";
import { to } from "../router";
import type { ClusterRow } from "../api";
import { tables } from "../rows";
import { hueOf, MARKS, type Hue } from "../words";
import { Share } from "./meter";

export type Group = { name: string; rows: ClusterRow[] };

/** Above so many cells, the healthy ones of a group are one figure. */
const FOLD = 5000;

const step = (v: number | null): number => (v === null ? 0 : Math.min(5, Math.max(0, Math.ceil(v / 20))));

type CellProps = { row: Signal<ClusterRow>; first: boolean; hover: (name: string, cell: Element | null) => void };

function Cell({ row, first, hover }: CellProps) {
  const r = row.value;
  const hue = hueOf(r.phase);
  return (
    <a class={`cell ${hue} l${hue === "ok" ? step(r.cpu) : 0}`} href={to("clusters", r.name)} tabIndex={first ? 0 : -1}
      aria-label={`${r.name}, ${r.phase}${r.reason && hue !== "ok" ? ", " + r.reason : ""}`}
      onMouseEnter={(e) => hover(r.name, e.currentTarget)} onFocus={(e) => hover(r.name, e.currentTarget)}>
      <span aria-hidden="true">{MARKS[hue]}</span>
    </a>
  );
}

export function parts(rows: ClusterRow[]): { hue: Hue; n: number }[] {
  const n: Record<Hue, number> = { bad: 0, warn: 0, busy: 0, none: 0, ok: 0 };
  for (const r of rows) n[hueOf(r.phase)]++;
  return (Object.keys(n) as Hue[]).map((hue) => ({ hue, n: n[hue] }));
}

type Props = { groups: Group[]; signals: Map<string, Signal<ClusterRow>>; grouped: boolean; hover: (name: string, cell: Element | null) => void };

/** GroupHead keeps its own figures: the map is not made anew for them. */
function GroupHead({ group: g, signals }: { group: Group; signals: Map<string, Signal<ClusterRow>> }) {
  void tables.clusters.table.tick.value;
  const rows = g.rows.map((r) => signals.get(r.name)?.peek() ?? r);
  return <header><h2>{g.name}</h2><span class="dim small">{count(rows.length)}</span><Share parts={parts(rows)} label={plural(rows.length, "cluster")} /></header>;
}

export function Heatmap({ groups, signals, grouped, hover }: Props) {
  const box = useRef<HTMLDivElement>(null);
  const total = groups.reduce((n, g) => n + g.rows.length, 0);
  const folded = total > FOLD;

  const walk = (e: KeyboardEvent) => {
    const here = document.activeElement as HTMLElement | null;
    if (!here?.classList.contains("cell") || e.ctrlKey || e.metaKey || e.altKey) return;
    const cells = [...box.current!.querySelectorAll<HTMLElement>(".cell")];
    const next = neighbour(cells, here, e.key);
    if (!next) return;
    e.preventDefault();
    here.tabIndex = -1;
    next.tabIndex = 0;
    next.focus();
  };

  let first = true;
  return (
    <div class={"map " + (total > 1500 ? "many" : total <= 40 ? "few" : total <= 500 ? "some" : "")} ref={box} onKeyDown={walk}
      onMouseLeave={() => hover("", null)} onFocusOut={() => hover("", null)}>
      {groups.map((g) => {
        const rows = folded ? g.rows.filter((r) => hueOf(r.phase) !== "ok") : g.rows;
        const well = g.rows.length - rows.length;
        return (
          <section class="group" key={g.name} aria-label={grouped ? g.name : "All clusters"}>
            {grouped && <GroupHead group={g} signals={signals} />}
            <div class="cells">
              {rows.map((r) => {
                const s = signals.get(r.name);
                if (!s) return null;
                const f = first;
                first = false;
                return <Cell key={r.name} row={s} first={f} hover={hover} />;
              })}
              {well > 0 && <span class="folded">{count(well)} well</span>}
            </div>
          </section>
        );
      })}
    </div>
  );
}

/** neighbour is where an arrow leads from a cell, by where cells are on the screen. */
export function neighbour(cells: HTMLElement[], here: HTMLElement, key: string): HTMLElement | undefined {
  const i = cells.indexOf(here);
  switch (key) {
    case "ArrowRight": return cells[i + 1];
    case "ArrowLeft": return cells[i - 1];
    case "Home": return cells[0];
    case "End": return cells.at(-1);
    case "ArrowDown":
    case "ArrowUp": {
      const down = key === "ArrowDown";
      const from = here.getBoundingClientRect();
      let best: HTMLElement | undefined, line: number | undefined, distance = Infinity;
      for (let j = i + (down ? 1 : -1); j >= 0 && j < cells.length; j += down ? 1 : -1) {
        const r = cells[j]!.getBoundingClientRect();
        if (Math.abs(r.top - from.top) < 2) continue;
        line ??= r.top;
        if (Math.abs(r.top - line) > 2) break;
        const d = Math.abs(r.left - from.left);
        if (d < distance) {
          distance = d;
          best = cells[j];
        }
      }
      return best;
    }
    default: return undefined;
  }
}

export function Legend() {
  const entries: [Hue, string][] = [["ok", "well, filled by CPU load"], ["busy", "on its way"], ["warn", "needs a look"], ["bad", "broken or away"], ["none", "not accepted"]];
  return <div class="legend" aria-hidden="true">{entries.map(([h, text]) => <span key={h}><i class={`cell ${h} ${h === "ok" ? "l2" : ""}`}>{MARKS[h]}</i>{text}</span>)}</div>;
}
