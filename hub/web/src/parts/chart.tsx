// A chart over time. The library comes with the first page that has one.

import { useEffect, useRef, useState } from "preact/hooks";
import type uPlot from "uplot";
import { clockTime } from "../format";
import { scheme } from "../scheme";
import { Loading } from "./states";

export type Line = { label: string; values: (number | null)[]; colour: "busy" | "ok" | "warn" | "bad" | "none"; fill?: boolean; dashed?: boolean };
type Props = { title: string; time: number[]; lines: Line[]; text: (v: number) => string; max?: number; binary?: boolean; sync: string };

let library: Promise<typeof uPlot> | undefined;
const load = () => (library ??= import("uplot").then((m) => m.default).catch((e: unknown) => {
  library = undefined;
  throw e;
}));

const HEIGHT = 132;
/** Steps of an axis of bytes. */
const BINARY = Array.from({ length: 50 }, (_, i) => 2 ** i);

const resolved = (from: Element, name: string): string => {
  // A custom property with light-dark() is resolved only where it is used as a colour.
  const probe = document.createElement("span");
  probe.style.setProperty("color", `var(${name})`);
  from.append(probe);
  const colour = getComputedStyle(probe).color;
  probe.remove();
  return colour;
};

const latest = (c: ArrayLike<number | null | undefined> | undefined): number | null => (c && Array.from(c).findLast((v) => v !== null && v !== undefined)) ?? null;
const shown = (v: number | null | undefined, text: (v: number) => string): string => (v === null || v === undefined ? "–" : text(v));

function options(box: HTMLElement, p: Props): uPlot.Options {
  const ink = resolved(box, "--dim"), line = resolved(box, "--line");
  return {
    width: box.clientWidth, height: HEIGHT, padding: [8, 20, 0, 0],
    cursor: { sync: { key: p.sync }, points: { size: 5 }, drag: { x: false, y: false } },
    legend: { live: true },
    scales: { y: { range: (_u, low, high) => [Math.min(0, low ?? 0), Math.max(p.max ?? 0, (high ?? 0) * 1.1, 1e-9)] } },
    axes: [
      { stroke: ink, font: "11px system-ui, sans-serif", grid: { show: false }, ticks: { show: false }, size: 22, values: (_u, s) => s.map((t) => new Date(t * 1000).toLocaleTimeString(undefined, { hour: "2-digit", minute: "2-digit", hourCycle: "h23" })) },
      { stroke: ink, font: "11px system-ui, sans-serif", grid: { stroke: line, width: 1 }, ticks: { show: false }, size: 74, space: 34, ...(p.binary ? { incrs: BINARY } : {}), values: (_u, s) => s.map(p.text) },
    ],
    series: [
      { value: (u, t, _i, at) => shown(at === null || at === undefined ? latest(u.data[0]) : t, clockTime), label: "Time" },
      ...p.lines.map((l): uPlot.Series => {
        const stroke = resolved(box, "--" + l.colour);
        return {
          label: l.label, stroke, width: 1.5, points: { show: false }, spanGaps: false,
          ...(l.dashed ? { dash: [4, 3] } : {}),
          ...(l.fill ? { fill: stroke.replace("rgb(", "rgba(").replace(")", ", 0.12)") } : {}),
          // Without a cursor the legend says what is now.
          value: (u, v, i, at) => shown(at === null || at === undefined ? latest(u.data[i]) : v, p.text),
        };
      }),
    ],
  };
}

/** Chart shows lines over one time axis; charts of the same sync share their cursor. */
export function Chart(p: Props) {
  const box = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | undefined>(undefined);
  const [U, setU] = useState<{ of: typeof uPlot } | undefined>();
  const [failed, setFailed] = useState(false);
  const [dark, setDark] = useState(0);
  const colours = scheme.value;
  useEffect(() => { load().then((u) => setU({ of: u }), () => setFailed(true)); }, []);
  useEffect(() => {
    const m = matchMedia("(prefers-color-scheme: dark)");
    const change = () => setDark((n) => n + 1);
    m.addEventListener("change", change);
    return () => m.removeEventListener("change", change);
  }, []);
  const data = (): uPlot.AlignedData => [p.time, ...p.lines.map((l) => l.values)] as uPlot.AlignedData;
  const kinds = p.lines.map((l) => l.label).join();
  useEffect(() => {
    if (!U || !box.current) return;
    const u = new U.of(options(box.current, p), data(), box.current);
    plot.current = u;
    const watch = new ResizeObserver(() => { if (box.current?.clientWidth) u.setSize({ width: box.current.clientWidth, height: HEIGHT }); });
    watch.observe(box.current);
    return () => {
      watch.disconnect();
      u.destroy();
      plot.current = undefined;
    };
  }, [U, colours, dark, kinds]);
  useEffect(() => { plot.current?.setData(data()); }, [p.time, kinds]);
  const last = p.lines[0]?.values.findLast((v) => v !== null);
  return (
    <section class="card">
      <header><h3>{p.title}</h3>{last !== undefined && last !== null && <span class="push strong">{p.text(last)}</span>}</header>
      <div class="chart" ref={box} role="img" aria-label={`${p.title} of the last hour${last !== undefined && last !== null ? ", now " + p.text(last) : ""}`}>
        {!U && !failed && <Loading what={p.title} lines={4} />}
        {failed && <p class="dim">The chart could not be loaded.</p>}
      </div>
    </section>
  );
}
