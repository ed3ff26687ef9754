// One cluster: how it is and why, what it runs, and what can be done about it.

import "../common";
import type { ManagedCluster } from "../api";
import { count } from "../format";
import { useKeys } from "../keys";
import { Note } from "../parts/dialog";
import { Guard } from "../parts/states";
import { Status } from "../parts/status";
import { Head } from "../parts/title";
import { clusters } from "../resources";
import { go, to } from "../router";
import { useObject, useRowsOf, useTable } from "../rows";
import { hueOf } from "../words";
import { ClusterActions } from "./cluster-actions";
import { AddonsOf, WorksOf } from "./cluster-lists";
import { Overview } from "./cluster-overview";
import { NotFound } from "./screens";

export function Cluster({ params }: { params: Record<string, string> }) {
  const name = params.name!, tab = params.tab ?? "";
  const { object, table } = useObject<ManagedCluster>(clusters, "", name);
  const row = useTable("clusters").row(name);
  const works = useRowsOf("works", name), addons = useRowsOf("installed", name);
  const tabs: [string, string, number | undefined][] = [
    ["", "Overview", undefined],
    ["works", "Works", works.state.value === "ready" ? works.list().length : undefined],
    ["addons", "Addons", addons.state.value === "ready" ? addons.list().length : undefined],
  ];
  useKeys(tabs.map(([t, label], i) => ({ keys: String(i + 1), label, group: "This cluster", run: () => go(to("clusters", name, ...(t ? [t] : []))) })), [name]);
  if (table.state.value === "ready" && !object) return <NotFound what="cluster" name={name} />;
  const hue = row ? hueOf(row.phase) : "none";
  return (
    <>
      <Head title={name} tab={row ? `${name} ${row.phase}` : name} crumbs={[["Fleet", "/"]]} beside={row && <Status word={row.phase} />} actions={object && <ClusterActions cluster={object} />} />
      {row?.reason && hue !== "ok" && <Note hue={hue}>{row.reason}</Note>}
      <nav class="tabs" aria-label="Parts of this page">
        {tabs.map(([t, label, n]) => (
          <a key={t} href={to("clusters", name, ...(t ? [t] : []))} aria-current={t === tab ? "page" : undefined}>{label}{n !== undefined && <span class="badge">{count(n)}</span>}</a>
        ))}
      </nav>
      <Guard of={table} what="this cluster">
        {() => object && (tab === "works" ? <WorksOf cluster={name} table={works} /> : tab === "addons" ? <AddonsOf cluster={name} table={addons} works={works} /> : <Overview cluster={object} row={row} />)}
      </Guard>
    </>
  );
}
