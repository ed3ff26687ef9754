// The one stream of this tab. It carries whatever the page needs now, from one
// cursor on; when the needs change it is asked for anew from there, so that nothing
// is fetched twice.

import { signal } from "@preact/signals";
import type { Frame as Line, Table as Answer } from "./api";
import { check, get, loggedOut, Refusal, say } from "./client";
import { Frames, Table, type Raw } from "./store";

/** Link is how the connection is: since when, and what was wrong. */
export type Link =
  | { state: "connecting" }
  | { state: "live" }
  | { state: "stale"; since: number; why: string; retry: number };

export const link = signal<Link>({ state: "connecting" });
/** reloads counts complete reloads, after which nothing kept elsewhere holds. */
export const reloads = signal(0);

type Frame = Omit<Line, "put"> & { put?: Record<string, Raw[]> };

/** Source is something that the stream can carry. */
export type Source = { key: string; name: string; table: Table<never>; load: () => Promise<Loaded> };
export type Loaded = { rev: number; columns?: string[]; rows: Raw[] };

const QUIET = 15_000; // beats come every ten seconds
const HIDDEN = 5 * 60_000;
const LINGER = 20_000;
const FIRST = 500, MOST = 8_000;

class Live {
  private needs = new Map<string, { source: Source; users: number; loaded: boolean; left: number }>();
  private byName = new Map<string, Table<never>>();
  private frames = new Frames();
  /** skew is how far the hub's clock is ahead of ours, in seconds. */
  skew = 0;
  private rev = 0;
  private heard = 0;
  private aborter: AbortController | undefined;
  private wake: (() => void) | undefined;
  private opened = "";
  private hidden = 0;
  private running = false;

  /** want keeps a source up to date until the returned function is called. */
  want(source: Source): () => void {
    const n = this.needs.get(source.key);
    if (n) n.users++;
    else this.needs.set(source.key, { source, users: 1, loaded: false, left: 0 });
    this.byName.set(source.name, source.table);
    this.byName.set(source.key, source.table);
    if (!n) this.changed();
    let done = false;
    return () => {
      if (done) return;
      done = true;
      const have = this.needs.get(source.key);
      if (have && --have.users === 0) have.left = Date.now();
    };
  }

  start(): void {
    if (this.running) return;
    this.running = true;
    document.addEventListener("visibilitychange", () => {
      if (document.hidden) this.hidden = Date.now();
      else {
        this.hidden = 0;
        this.wake?.();
      }
    });
    addEventListener("online", () => this.wake?.());
    setInterval(() => this.check(), 1000);
    void this.run();
  }

  private changed(): void {
    // Pages come and go in one turn: look when it is over.
    setTimeout(() => {
      if (this.opened && this.opened !== this.selection()) this.aborter?.abort("needs");
      else this.wake?.();
    }, 20);
  }

  private selection(): string {
    return [...this.needs.keys()].sort().join("&");
  }

  private check(): void {
    if (this.hidden && Date.now() - this.hidden > HIDDEN) this.aborter?.abort("hidden");
    else if (this.opened && Date.now() - this.heard > QUIET) this.aborter?.abort("quiet");
  }

  private stale(why: string, retry: number): void {
    const since = link.value.state === "stale" ? link.value.since : this.heard || Date.now();
    link.value = { state: "stale", since, why, retry: Date.now() + retry };
  }

  private async run(): Promise<void> {
    for (let failures = 0; ; ) {
      if (loggedOut.value) return;
      if (this.hidden && Date.now() - this.hidden > HIDDEN) {
        await this.pause(0);
        continue;
      }
      for (const [key, n] of this.needs) {
        if (n.users === 0 && Date.now() - n.left > LINGER) this.needs.delete(key);
      }
      if (this.needs.size === 0) {
        await this.pause(0);
        continue;
      }
      try {
        // More may be wanted while the first of it comes.
        while ([...this.needs.values()].some((n) => !n.loaded)) await this.load();
        await this.stream(() => { failures = 0; });
        // ended in good order: the hub stops, or a proxy cuts long answers
        this.stale("the hub closed the connection", FIRST);
        await this.pause(FIRST * (1 + Math.random()));
      } catch (e) {
        const reason = this.aborter?.signal.aborted ? this.aborter.signal.reason : "";
        this.opened = "";
        if (reason === "needs") continue;
        if (reason === "hidden") {
          this.stale("paused while the tab was hidden", 0);
          continue;
        }
        if (e instanceof Refusal && (e.status === 410 || e.reason === "Expired")) {
          this.forget();
          continue;
        }
        const wait = Math.min(MOST, FIRST * 2 ** failures++) * (0.5 + Math.random());
        this.stale(reason === "quiet" ? "nothing heard from the hub" : say(e), wait);
        await this.pause(wait);
      }
    }
  }

  /** load fetches what is not here yet, and moves the cursor back to the oldest of it. */
  private async load(): Promise<void> {
    await Promise.all([...this.needs.values()].map(async (n) => {
      if (n.loaded) return;
      try {
        const l = await n.source.load();
        const table = n.source.table;
        if (l.columns) table.columns = l.columns;
        table.replace(l.rows);
        n.loaded = true;
        this.rev = this.rev ? Math.min(this.rev, l.rev || this.rev) : l.rev;
      } catch (e) {
        if (e instanceof Refusal && (e.status === 403 || e.status === 404)) {
          n.source.table.refuse(e.status === 403 ? "forbidden" : "failed", e.message);
          n.loaded = e.status === 403;
          if (e.status === 404) this.needs.delete(n.source.key);
          return;
        }
        n.source.table.refuse("failed", say(e));
        throw e;
      }
    }));
  }

  private async stream(opened: () => void): Promise<void> {
    const selection = this.selection();
    this.aborter = new AbortController();
    this.heard = Date.now();
    this.opened = selection;
    const answer = await check(await fetch(`/v1/live?${selection}&since=${this.rev}`, {
      credentials: "same-origin", signal: this.aborter.signal, cache: "no-store",
    }));
    opened();
    link.value = { state: "live" };
    const reader = answer.body!.pipeThrough(new TextDecoderStream()).getReader();
    for (let rest = ""; ; ) {
      const { done, value } = await reader.read();
      if (done) break;
      this.heard = Date.now();
      const lines = (rest + value).split("\n");
      rest = lines.pop()!;
      for (const line of lines) if (line.trim()) this.take(JSON.parse(line) as Frame);
    }
    this.opened = "";
  }

  private take(f: Frame): void {
    if (f.time) this.skew = Date.parse(f.time) / 1000 - Date.now() / 1000;
    if (f.reset) {
      this.forget();
      this.aborter?.abort("needs");
      return;
    }
    if (f.end) loggedOut.value = true;
    if (f.columns) for (const [name, c] of Object.entries(f.columns)) {
      const t = this.byName.get(name);
      if (t) t.columns = c;
    }
    if (f.put || f.del || f.forbidden) this.frames.add(() => this.apply(f));
    if (f.rev && !f.beat) this.rev = f.rev;
    else if (f.rev && f.beat) this.rev = Math.max(this.rev, f.rev);
  }

  private apply(f: Frame): void {
    for (const name of new Set([...Object.keys(f.put ?? {}), ...Object.keys(f.del ?? {})])) {
      this.byName.get(name)?.change(f.put?.[name] ?? [], f.del?.[name] ?? []);
    }
    for (const [name, message] of Object.entries(f.forbidden ?? {})) this.byName.get(name)?.refuse("forbidden", message);
  }

  /** forget makes everything load again; what is shown stays until then. */
  private forget(): void {
    this.rev = 0;
    for (const n of this.needs.values()) n.loaded = false;
    reloads.value++;
  }

  /** pause waits, 0 for ever, or until there is a reason to go on. */
  private pause(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = ms ? setTimeout(resolve, ms) : 0;
      this.wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }

  /** now tries again at once, because somebody asked for it. */
  now(): void {
    this.wake?.();
  }
}

export const live = new Live();

/** loadTable is the first content of a server-side table, or of a namespace of it. */
export async function loadTable(name: string, namespace = ""): Promise<Loaded> {
  const t = await get<Answer>("/v1/table/" + name + (namespace ? "?namespace=" + encodeURIComponent(namespace) : ""));
  return { rev: t.rev, columns: t.columns, rows: (t.rows ?? []) as Raw[] };
}

/** loadList is the first content of a list of the API. */
export async function loadList(path: string): Promise<Loaded> {
  const l = await get<{ metadata: { resourceVersion: string }; items: Raw[] }>(path);
  return { rev: Number(l.metadata.resourceVersion), rows: l.items ?? [] };
}

/** loadObject is one object as a list of one, or of none. */
export async function loadObject(path: string): Promise<Loaded> {
  try {
    const o = await get<Record<string, unknown> & { metadata: { resourceVersion: string } }>(path);
    return { rev: Number(o.metadata.resourceVersion), rows: [o] };
  } catch (e) {
    if (e instanceof Refusal && e.status === 404) return { rev: 0, rows: [] };
    throw e;
  }
}
