// The fleet: how many are how, which ones, and where to look first.

import { useMemo, useRef } from "preact/hooks";
import type { ClusterRow } from "../api";
import { matcher, only, parse, toggle, type Shape } from "../filter";
import { count, natural, plural, seconds } from "../format";
import { useKeys } from "../keys";
import { pending } from "../parts/frame";
import { Heatmap, Legend, parts, type Group } from "../parts/heatmap";
import { hover, hovered } from "../parts/hover";
import { Icon } from "../parts/icon";
import { Mini, Share } from "../parts/meter";
import { Search } from "../parts/search";
import { Empty, Guard } from "../parts/states";
import { Age, Glyph, Status } from "../parts/status";
import type { Column, TableProps } from "../parts/table";
import { lazy } from "../parts/lazy";
import { Head } from "../parts/title";
import { query, setQuery, to } from "../router";
import { tables, useTable } from "../rows";
import { PHASES } from "../phases";
import { hueOf, meaning, order } from "../words";

const FirstRun = lazy<object>(() => import("../parts/firstrun").then((m) => m.FirstRun));
const HoverCard = lazy<object>(() => import("../parts/hovercard").then((m) => m.HoverCard), { quiet: true });
const ClusterTable = lazy<TableProps<ClusterRow>>(() => import("../parts/table").then((m) => m.DataTable<ClusterRow>));

const SHAPE: Shape<ClusterRow> = {
  text: (r) => [r.name, r.reason, ...Object.values(r.labels ?? {})],
  labels: (r) => r.labels,
  fields: {
    phase: (r) => r.phase, version: (r) => r.agent, kubernetes: (r) => r.kubernetes, set: (r) => r.set, name: (r) => r.name,
    cpu: (r) => r.cpu, memory: (r) => r.memory, nodes: (r) => r.nodes, works: (r) => r.works, addons: (r) => r.addons,
    problems: (r) => (r.problems ?? 0) + (r.addonProblems ?? 0),
  },
};
const FIELDS = Object.keys(SHAPE.fields);

const COLUMNS: Column<ClusterRow>[] = [
  { key: "name", label: "Cluster", cell: (r) => <a class="main" href={to("clusters", r.name)}>{r.name}</a>, sort: (r) => r.name },
  { key: "phase", label: "Phase", cell: (r) => <Status word={r.phase} />, sort: (r) => order("cluster", r.phase) * 1e3 },
  { key: "since", label: "Since", cell: (r) => <Age at={r.since} />, sort: (r) => -seconds(r.since), num: true },
  { key: "cpu", label: "CPU", cell: (r) => <Mini percent={r.cpu} />, sort: (r) => r.cpu, num: true },
  { key: "memory", label: "Memory", cell: (r) => <Mini percent={r.memory} />, sort: (r) => r.memory, num: true },
  { key: "nodes", label: "Nodes", cell: (r) => (r.nodes ? `${r.nodesReady} of ${r.nodes}` : "–"), sort: (r) => r.nodes, num: true },
  { key: "works", label: "Works", cell: (r) => <Counted n={r.works} bad={r.problems} />, sort: (r) => (r.problems ?? 0) * 1e6 + (r.works ?? 0), num: true },
  { key: "addons", label: "Addons", cell: (r) => <Counted n={r.addons} bad={r.addonProblems} />, sort: (r) => (r.addonProblems ?? 0) * 1e6 + (r.addons ?? 0), num: true },
  { key: "kubernetes", label: "Kubernetes", cell: (r) => r.kubernetes || <span class="faint">none</span>, sort: (r) => r.kubernetes },
  { key: "agent", label: "Agent", cell: (r) => r.agent || <span class="faint">–</span>, sort: (r) => r.agent },
  { key: "reason", label: "Reason", cell: (r) => <span class="dim" title={r.reason}>{hueOf(r.phase) === "ok" ? "" : r.reason}</span>, kind: "wide" },
];

function Counted({ n, bad }: { n: number | null; bad: number | null }) {
  if (n === null) return <span class="faint" title="You may not see these">–</span>;
  return <span>{bad ? <><Status word="problem" hue="bad">{bad}</Status> of </> : ""}{count(n)}</span>;
}

/**
 * groupBy puts clusters together by "phase", "set", "version", "kubernetes" or a
 * label's value. Within a group they keep their order: a cluster has its place on the
 * map, whatever happens to it.
 */
export function groupBy(rows: ClusterRow[], by: string): Group[] {
  const value = (r: ClusterRow): string => {
    switch (by) {
      case "": return "";
      case "phase": return r.phase;
      case "set": return r.set;
      case "version": return r.agent;
      case "kubernetes": return r.kubernetes;
      default: return r.labels?.[by.replace(/^label:/, "")] ?? "";
    }
  };
  const groups = new Map<string, ClusterRow[]>();
  for (const r of rows) {
    const v = value(r);
    const list = groups.get(v);
    if (list) list.push(r);
    else groups.set(v, [r]);
  }
  return [...groups].sort(([a], [b]) => (by === "phase" ? order("cluster", a) - order("cluster", b) : a === "" ? 1 : b === "" ? -1 : natural(a, b)))
    .map(([name, list]) => ({ name: name || "none", rows: list }));
}

/** same says whether groups have the same clusters in the same places. */
export function same(a: Group[], b: Group[]): boolean {
  return a.length === b.length && a.every((g, i) => g.name === b[i]!.name && g.rows.length === b[i]!.rows.length && g.rows.every((r, j) => r.name === b[i]!.rows[j]!.name));
}

/** labelKeys are labels worth grouping by: shared by several, and not all different. */
export function labelKeys(rows: ClusterRow[]): string[] {
  const values = new Map<string, Set<string>>();
  for (const r of rows) {
    for (const [k, v] of Object.entries(r.labels ?? {})) {
      const s = values.get(k) ?? new Set();
      if (s.size < 200) s.add(v);
      values.set(k, s);
    }
  }
  return [...values].filter(([k, s]) => s.size < Math.max(3, Math.min(200, rows.length * 0.6)) && !/^(feature\.)?open-cluster-management\.io|\.open-cluster-management\.io\//.test(k)).map(([k]) => k).sort(natural);
}

function Counters({ rows }: { rows: ClusterRow[] }) {
  const text = query("q"), chosen = only(text, "phase");
  const n = new Map<string, number>();
  for (const r of rows) n.set(r.phase, (n.get(r.phase) ?? 0) + 1);
  const shown = PHASES.cluster!.filter((p) => n.get(p.name) || chosen === p.name);
  return (
    <div class="stack">
      <Share parts={parts(rows)} label={shown.map((p) => `${n.get(p.name) ?? 0} ${p.name}`).join(", ")} />
      <div class="counters" role="group" aria-label="Filter by phase">
        {shown.map((p) => (
          <button key={p.name} class="counter" aria-pressed={chosen === p.name} title={meaning("cluster", p.name)} onClick={() => setQuery({ q: toggle(text, "phase", p.name) })}>
            <Status word={p.name} /><b>{count(n.get(p.name) ?? 0)}</b>
          </button>
        ))}
      </div>
    </div>
  );
}

function Waiting() {
  const n = pending();
  if (n === 0) return null;
  return (
    <div class="note warn">
      <span class="status warn"><Glyph hue="warn" /></span>
      <span><b class="strong">{plural(n, "agent")}</b> {n === 1 ? "asks" : "ask"} to join.</span>
      <a class="push" href="/requests">Compare and approve</a>
    </div>
  );
}

const MOST = 8;

/** Attention lists what needs somebody, the newest trouble first within its phase. */
function Attention({ rows }: { rows: ClusterRow[] }) {
  const list = rows.filter((r) => hueOf(r.phase) === "bad" || hueOf(r.phase) === "warn" || (r.problems ?? 0) + (r.addonProblems ?? 0) > 0)
    .sort((a, b) => order("cluster", a.phase) - order("cluster", b.phase) || b.since - a.since);
  if (list.length === 0) return null;
  return (
    <section class="attention" aria-label="Clusters that need somebody">
      <h2>Look here first</h2>
      <ul>
        {list.slice(0, MOST).map((r) => {
          const n = (r.problems ?? 0) + (r.addonProblems ?? 0);
          return (
            <li key={r.name}>
              <Status word={r.phase} /><a class="strong clip" href={to("clusters", r.name, ...(hueOf(r.phase) === "ok" ? [r.problems ? "works" : "addons"] : []))}>{r.name}</a>
              <span class="dim clip why" title={r.reason}>{hueOf(r.phase) === "ok" ? `${plural(n, "work or addon", "works or addons")} not well` : r.reason}</span><span class="faint"><Age at={r.since} /></span>
            </li>
          );
        })}
      </ul>
      {list.length > MOST && <button class="btn tiny plain" onClick={() => setQuery({ view: "table" })}>All {count(list.length)} in the table</button>}
    </section>
  );
}

export function Fleet() {
  const table = useTable("clusters");
  const text = query("q"), view = query("view") || "map", by = query("by");
  const parsed = useMemo(() => parse(text, FIELDS), [text]);
  const shape = table.shape.value, tick = table.tick.value;
  const names = useMemo(() => [...table.rows.keys()].sort(natural), [shape]);
  const all = useMemo(() => names.flatMap((n) => table.rows.get(n)?.peek() ?? []), [names, tick]);
  const rows = useMemo(() => (text ? all.filter(matcher(parsed, SHAPE)) : all), [all, parsed]);
  const keys = useMemo(() => labelKeys(all), [shape]);
  const shown = useRef<Group[]>([]);
  const next = useMemo(() => (view === "map" ? groupBy(rows, by) : []), [rows, by, view]);
  // Cells draw themselves: the map is only made anew when clusters come, go or move.
  if (!same(shown.current, next)) shown.current = next;
  const groups = shown.current;
  const map = useMemo(() => <Heatmap groups={groups} grouped={by !== ""} signals={tables.clusters.table.rows} hover={hover} />, [groups, by]);
  const choices = ["", "phase", "set", "version", "kubernetes", ...keys.map((k) => "label:" + k)];
  useKeys([
    { keys: "b", label: "Group by the next thing", group: "Fleet", run: () => setQuery({ by: choices[(choices.indexOf(by) + 1) % choices.length] ?? "" }) },
    { keys: "v", label: "Map or table", group: "Fleet", run: () => setQuery({ view: view === "map" ? "table" : "" }) },
  ], [by, view, choices.length]);

  const first = table.state.value === "ready" && table.rows.size === 0;
  return (
    <>
      <Head title="Fleet" beside={table.state.value === "ready" && !first ? plural(all.length, "cluster") : undefined}
        actions={!first && <a class="btn" href="/tokens?new=1"><Icon name="plus" />Add clusters</a>} />
      <Guard of={table} what="the clusters">
        {() => first ? <FirstRun /> : (
          <>
            <Waiting />
            <Counters rows={all} />
            <div class="toolbar">
              <Search label="Filter clusters" hint="phase:Offline  version:<1.3  region=eu  text" problem={parsed.problem} suggest={[...FIELDS.map((f) => f + ":"), ...keys.map((k) => k + "=")]} />
              {view === "map" && (
                <label>Group by
                  <select value={by} onChange={(e) => setQuery({ by: e.currentTarget.value })}>
                    <option value="">nothing</option>
                    <option value="phase">phase</option><option value="set">set</option><option value="version">agent version</option><option value="kubernetes">Kubernetes version</option>
                    {keys.length > 0 && <optgroup label="Labels">{keys.map((k) => <option key={k} value={"label:" + k}>{k}</option>)}</optgroup>}
                  </select>
                </label>
              )}
              <div class="seg push" role="group" aria-label="View">
                <button aria-pressed={view === "map"} onClick={() => setQuery({ view: "" })}><Icon name="fleet" size={14} />Map</button>
                <button aria-pressed={view === "table"} onClick={() => setQuery({ view: "table" })}><Icon name="list" size={14} />Table</button>
              </div>
            </div>
            {text && <p class="dim small" role="status">{count(rows.length)} of {plural(all.length, "cluster")} fit the filter.</p>}
            {rows.length === 0 ? <Empty title="No cluster fits the filter" actions={<button class="btn" onClick={() => setQuery({ q: "" })}>Clear the filter</button>}><code>{text}</code></Empty>
              : view === "table" ? <ClusterTable label="Clusters" rows={rows} columns={COLUMNS} keyOf={(r) => r.name} first="phase" above={270} />
                : <>{map}<Legend /><Attention rows={rows} /></>}
            {view === "map" && hovered.value && <HoverCard />}
          </>
        )}
      </Guard>
    </>
  );
}
