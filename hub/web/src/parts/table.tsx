// One table for all lists: sorted by its heads, walked by arrows, and with only the
// rows in the document that can be seen, so that ten thousand cost what forty do.

import "../common";
import type { ComponentChildren } from "preact";
import { useEffect, useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
import { natural } from "../format";
import { useKeys } from "../keys";
import { query, setQuery } from "../router";
import { Icon } from "./icon";

export type Column<R> = {
  key: string; label: string; cell: (row: R) => ComponentChildren;
  sort?: (row: R) => string | number | null | undefined; num?: boolean; kind?: string;
};

const HIGH = 34;
const WINDOWED = 150;

export type TableProps<R> = {
  label: string; rows: R[]; columns: Column<R>[]; keyOf: (row: R) => string;
  /** first is the order until somebody asks for another: "name" or "-age". */
  first?: string; param?: string; narrow?: boolean; above?: number;
};

export function sorted<R>(rows: R[], columns: Column<R>[], order: string): R[] {
  const down = order.startsWith("-");
  const value = columns.find((c) => c.key === order.replace(/^-/, ""))?.sort;
  if (!value) return rows;
  const keyed = rows.map((row) => [value(row), row] as const);
  const sign = down ? -1 : 1;
  keyed.sort(([a], [b]) => {
    const none = (v: unknown) => v === null || v === undefined || v === "";
    if (none(a) || none(b)) return Number(none(a)) - Number(none(b)); // what is not known comes last
    return sign * (typeof a === "number" && typeof b === "number" ? a - b : natural(String(a), String(b)));
  });
  return keyed.map(([, row]) => row);
}

export function DataTable<R>({ label, rows, columns, keyOf, first = "", param = "sort", narrow = true, above }: TableProps<R>) {
  const order = query(param) || first;
  const list = useMemo(() => sorted(rows, columns, order), [rows, order]);
  const box = useRef<HTMLDivElement>(null);
  const [view, setView] = useState({ from: 0, to: 60 });
  const windowed = list.length > WINDOWED;

  const look = () => {
    const b = box.current;
    if (!b || !windowed) return;
    const from = Math.max(0, Math.floor(b.scrollTop / HIGH) - 12);
    const to = Math.ceil((b.scrollTop + b.clientHeight) / HIGH) + 12;
    setView((v) => (v.from === from && v.to === to ? v : { from, to }));
  };
  useLayoutEffect(look, [list.length, windowed]);
  useEffect(() => {
    addEventListener("resize", look);
    return () => removeEventListener("resize", look);
  }, [windowed]);

  const focusRow = (i: number) => {
    const b = box.current!;
    i = Math.max(0, Math.min(list.length - 1, i));
    const top = i * HIGH;
    if (windowed && (top < b.scrollTop || top + 2 * HIGH > b.scrollTop + b.clientHeight - HIGH)) {
      b.scrollTop = Math.max(0, top - b.clientHeight / 2);
      look();
    }
    requestAnimationFrame(() => {
      const a = b.querySelector<HTMLElement>(`tr[data-i="${i}"] a.main, tr[data-i="${i}"] button`);
      a?.focus({ preventScroll: windowed });
    });
  };
  const here = () => {
    const row = (document.activeElement as HTMLElement | null)?.closest<HTMLElement>("tr[data-i]");
    return row && box.current?.contains(row) ? Number(row.dataset.i) : -1;
  };
  useKeys([
    { keys: "j", label: "Next row", group: "Lists", run: () => focusRow(here() + 1) },
    { keys: "k", label: "Previous row", group: "Lists", run: () => focusRow(here() < 0 ? 0 : here() - 1) },
  ], [list]);
  const walk = (e: KeyboardEvent) => {
    const step = { ArrowDown: 1, ArrowUp: -1, PageDown: 15, PageUp: -15, Home: -1e9, End: 1e9 }[e.key];
    const i = here();
    if (step === undefined || i < 0 || e.ctrlKey || e.altKey || e.metaKey) return;
    e.preventDefault();
    focusRow(i + step);
  };
  const sortBy = (c: Column<R>) => {
    const next = order === c.key ? "-" + c.key : order === "-" + c.key ? c.key : c.num ? "-" + c.key : c.key;
    setQuery({ [param]: next === first ? "" : next });
  };

  const from = windowed ? Math.min(view.from, Math.max(0, list.length - 1)) : 0;
  const to = windowed ? Math.min(list.length, Math.max(view.to, from + 20)) : list.length;
  return (
    <div class={"scroller" + (windowed || above ? " tall" : "")} ref={box} onScroll={look} onKeyDown={walk} tabIndex={windowed ? 0 : undefined}
      role={windowed ? "region" : undefined} aria-label={windowed ? label : undefined} style={above ? { "--above": above + "px" } : undefined}>
      <table class={"grid" + (narrow && !windowed ? " cards-narrow" : "")} aria-label={label} aria-rowcount={list.length + 1}>
        <thead>
          <tr>
            {columns.map((c) => {
              const mine = order.replace(/^-/, "") === c.key;
              return (
                <th key={c.key} scope="col" class={c.num ? "num" : c.kind} aria-sort={mine ? (order.startsWith("-") ? "descending" : "ascending") : undefined}>
                  {c.sort ? <button onClick={() => sortBy(c)}>{c.label}<Icon name="up" size={12} /></button> : c.label || <span class="sr">Actions</span>}
                </th>
              );
            })}
          </tr>
        </thead>
        <tbody>
          {from > 0 && <tr class="pad" aria-hidden="true"><td colSpan={columns.length} style={{ "--high": from * HIGH + "px" }} /></tr>}
          {list.slice(from, to).map((row, n) => (
            <tr key={keyOf(row)} data-i={from + n} aria-rowindex={from + n + 2}>
              {columns.map((c, i) => <td key={c.key} class={(c.num ? "num " : "") + (c.kind ?? "")} data-label={i === 0 ? undefined : c.label}>{c.cell(row)}</td>)}
            </tr>
          ))}
          {to < list.length && <tr class="pad" aria-hidden="true"><td colSpan={columns.length} style={{ "--high": (list.length - to) * HIGH + "px" }} /></tr>}
        </tbody>
      </table>
    </div>
  );
}
