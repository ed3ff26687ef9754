// What the hub told this tab: tables of rows, one signal a row, so that a change of
// one cluster draws one cell. Changes gather and are drawn once a frame.

import { batch, signal, type Signal } from "@preact/signals";

export type State = "loading" | "ready" | "forbidden" | "failed";
export type Raw = unknown[] | Record<string, unknown>;

/** Above so many rows, what is computed of all of them is computed now and then only. */
const LARGE = 200, PAUSE = 250;
const HUGE = 2000, LONG_PAUSE = 750;

/** decode makes an object of a row, by the names of its columns. */
export function decode(columns: string[], row: unknown[]): Record<string, unknown> {
  const out: Record<string, unknown> = {};
  for (let i = 0; i < columns.length; i++) out[columns[i]!] = row[i];
  return out;
}

type Named = { metadata?: { name?: string; namespace?: string } };

/** objectKey is how an object of the API is known: NAMESPACE/NAME, or NAME. */
export function objectKey(o: unknown): string {
  const m = (o as Named).metadata;
  return m?.namespace ? m.namespace + "/" + m.name : (m?.name ?? "");
}

export class Table<R> {
  readonly rows = new Map<string, Signal<R>>();
  /** shape changes when rows come or go, tick when anything changed. */
  readonly shape = signal(0);
  readonly tick = signal(0);
  readonly state = signal<State>("loading");
  readonly message = signal("");
  columns: string[] = [];
  private timer = 0;
  private listed: { tick: number; rows: R[] } = { tick: -1, rows: [] };

  constructor(readonly keyOf: (row: R) => string, readonly make: (columns: string[], raw: Raw) => R) {}

  /** list is all rows now; who reads it is told of later changes. */
  list(): R[] {
    const tick = this.tick.value;
    if (this.listed.tick !== tick) this.listed = { tick, rows: Array.from(this.rows.values(), (s) => s.peek()) };
    return this.listed.rows;
  }

  row(key: string): R | undefined {
    void this.shape.value;
    return this.rows.get(key)?.value;
  }

  /** replace takes a whole list: what it lacks is gone. */
  replace(raws: Raw[]): void {
    batch(() => {
      const gone = new Set(this.rows.keys());
      for (const raw of raws) gone.delete(this.put(raw));
      for (const key of gone) this.rows.delete(key);
      this.state.value = "ready";
      this.message.value = "";
      this.shape.value++;
      this.tick.value++;
    });
  }

  /** change takes what differs from before. */
  change(put: Raw[], del: string[]): void {
    const before = this.rows.size;
    let fewer = 0;
    for (const raw of put) this.put(raw);
    const added = this.rows.size - before;
    for (const key of del) if (this.rows.delete(key)) fewer++;
    if (added || fewer) this.shape.value++;
    this.bump();
  }

  refuse(state: "forbidden" | "failed", message: string): void {
    batch(() => {
      if (state === "forbidden") this.rows.clear();
      if (state === "failed" && this.rows.size) return; // what is known stays, the lamp says how old it is
      this.state.value = state;
      this.message.value = message;
      this.shape.value++;
      this.tick.value++;
    });
  }

  private put(raw: Raw): string {
    const row = this.make(this.columns, raw);
    const key = this.keyOf(row);
    const s = this.rows.get(key);
    if (s) s.value = row;
    else this.rows.set(key, signal(row));
    return key;
  }

  private bump(): void {
    if (this.rows.size < LARGE) {
      this.tick.value++;
      return;
    }
    this.timer ||= window.setTimeout(() => {
      this.timer = 0;
      this.tick.value++;
    }, this.rows.size < HUGE ? PAUSE : LONG_PAUSE);
  }
}

/** Frames holds what came until the next frame is drawn; a hidden tab draws none. */
export class Frames {
  private waiting: (() => void)[] = [];
  private asked = false;

  add(work: () => void): void {
    this.waiting.push(work);
    if (this.asked) return;
    this.asked = true;
    if (document.hidden) setTimeout(this.flush, 500);
    else {
      // A frame may never come, when the tab is hidden in between.
      const late = window.setTimeout(this.flush, 500);
      requestAnimationFrame(() => {
        clearTimeout(late);
        this.flush();
      });
    }
  }

  private flush = (): void => {
    const all = this.waiting;
    this.waiting = [];
    this.asked = false;
    batch(() => all.forEach((f) => f()));
  };
}
