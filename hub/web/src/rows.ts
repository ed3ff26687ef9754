// What the pages read. A table of the hub is read by the names of its columns, so
// that a newer hub may add some.

import { useEffect } from "preact/hooks";
import type { Tables } from "./api";
import { live, loadList, loadObject, loadTable, type Source } from "./live";
import { at, full, type Obj, type Resource } from "./resources";
import { decode, objectKey, Table, type Raw } from "./store";

/** So many lists and objects that were looked at stay known. */
const MOST = 50;

export type TableName = keyof Tables;
type Kept<R> = { source: Source; table: Table<R> };

const rowOf = <R>(columns: string[], raw: Raw): R => (Array.isArray(raw) ? decode(columns, raw) : raw) as R;
const untyped = <R>(t: Table<R>): Table<never> => t as unknown as Table<never>;

function table<N extends TableName>(name: N, keyOf: (r: Tables[N]) => string): Kept<Tables[N]> {
  const t = new Table<Tables[N]>(keyOf, rowOf);
  return { table: t, source: { key: "table=" + name, name, table: untyped(t), load: () => loadTable(name) } };
}

export const tables: { [N in TableName]: Kept<Tables[N]> } = {
  clusters: table("clusters", (r) => r.name),
  requests: table("requests", (r) => r.name),
  tokens: table("tokens", (r) => r.name),
  works: table("works", (r) => r.namespace + "/" + r.name),
  addons: table("addons", (r) => r.name),
  versions: table("versions", (r) => r.name),
  installed: table("installed", (r) => r.cluster + "/" + r.name),
  sessions: table("sessions", (r) => r.name),
  access: table("access", (r) => r.name),
};

/** useTable keeps a table of the hub up to date while the page is shown. */
export function useTable<N extends TableName>(name: N): Table<Tables[N]> {
  useEffect(() => live.want(tables[name].source), [name]);
  return tables[name].table;
}

const parts = new Map<string, Kept<never>>();

/** useRowsOf keeps the rows of one namespace, which is a cluster's, up to date. */
export function useRowsOf<N extends "works" | "installed">(name: N, namespace: string): Table<Tables[N]> {
  const id = name + "/" + namespace;
  let k = parts.get(id) as Kept<Tables[N]> | undefined;
  if (!k) {
    if (parts.size >= MOST) parts.delete(parts.keys().next().value!);
    const t = new Table<Tables[N]>(tables[name].table.keyOf as (r: Tables[N]) => string, rowOf);
    k = { table: t, source: { key: "table=" + id, name: id, table: untyped(t), load: () => loadTable(name, namespace) } };
    parts.set(id, k as unknown as Kept<never>);
  }
  const { source, table } = k;
  useEffect(() => live.want(source), [source.key]);
  return table;
}

const kept = new Map<string, Kept<Obj>>();
function objects(key: string, load: Source["load"]): Kept<Obj> {
  let k = kept.get(key);
  if (!k) {
    if (kept.size >= MOST) kept.delete(kept.keys().next().value!);
    const t = new Table<Obj>(objectKey, (_, raw) => raw as unknown as Obj);
    k = { table: t, source: { key, name: key, table: untyped(t), load } };
    kept.set(key, k);
  }
  return k;
}

/** useList keeps the objects of a namespace, or all of a kind, up to date. */
export function useList<O>(k: Resource, namespace = ""): Table<O> {
  const key = `list=${full(k)}${namespace ? "/" + namespace : ""}`;
  const o = objects(key, () => loadList(at(k, namespace)));
  useEffect(() => live.want(o.source), [key]);
  return o.table as unknown as Table<O>;
}

/** useObject keeps one object up to date: undefined while there is none. */
export function useObject<O>(k: Resource, namespace: string, name: string): { object: O | undefined; table: Table<O> } {
  const id = namespace ? namespace + "/" + name : name;
  const o = objects(`object=${full(k)}/${id}`, () => loadObject(at(k, namespace, name)));
  useEffect(() => live.want(o.source), [o.source.key]);
  const t = o.table as unknown as Table<O>;
  return { object: t.row(id), table: t };
}
