// What a cluster runs: its works and its addons, with what is wanted against what is
// there.

import { useEffect, useRef } from "preact/hooks";
import type { InstalledRow, ManagedClusterAddOn, WorkRow } from "../api";
import { seconds } from "../format";
import { Conditions } from "../parts/conditions";
import { Evidence } from "../parts/evidence";
import { Empty, Guard } from "../parts/states";
import { Age, Digest, Status } from "../parts/status";
import { DataTable, type Column } from "../parts/table";
import { installed } from "../resources";
import { query, setQuery, to } from "../router";
import { useObject } from "../rows";
import type { Table } from "../store";
import { hueOf, order } from "../words";

const WORKS: Column<WorkRow>[] = [
  { key: "name", label: "Work", cell: (w) => <a class="main" href={to("clusters", w.namespace, "works", w.name)}>{w.name}</a>, sort: (w) => w.name },
  { key: "phase", label: "Phase", cell: (w) => <Status word={w.phase} />, sort: (w) => order("work", w.phase) },
  { key: "objects", label: "Objects", cell: (w) => <Objects work={w} />, sort: (w) => w.unhealthy * 1e6 + w.objects, num: true },
  { key: "drifted", label: "Drifted", cell: (w) => (w.drifted ? <Status word="Drifted" hue="warn">{w.drifted}</Status> : <span class="faint">0</span>), sort: (w) => w.drifted, num: true },
  { key: "generation", label: "Generation", cell: (w) => <Generation of={w} />, sort: (w) => w.generation, num: true },
  { key: "applied", label: "Applied digest", cell: (w) => <Digest of={w.applied} /> },
  { key: "addon", label: "Addon", cell: (w) => (w.addon ? <a href={to("addons", w.addon)}>{w.addon}</a> : <span class="faint">–</span>), sort: (w) => w.addon },
  { key: "since", label: "Since", cell: (w) => <Age at={w.since} />, sort: (w) => -seconds(w.since), num: true },
  { key: "reason", label: "Reason", cell: (w) => <span class="dim" title={w.reason}>{hueOf(w.phase) === "ok" ? "" : w.reason}</span>, kind: "wide" },
];

function Objects({ work: w }: { work: WorkRow }) {
  return <span>{w.unhealthy > 0 && <><Status word="problem" hue="bad">{w.unhealthy}</Status> of </>}{w.objects}</span>;
}

function Generation({ of: w }: { of: WorkRow }) {
  return w.reported === w.generation ? <span>{w.generation}</span> : <span title={`The cluster has generation ${w.reported || "none"} of ${w.generation}`}><span class="status busy">{w.reported || "none"}</span> of {w.generation}</span>;
}

export function WorksOf({ cluster, table }: { cluster: string; table: Table<WorkRow> }) {
  return (
    <Guard of={table} what="the works of this cluster">
      {() => table.list().length === 0
        ? <Empty title={`Nothing was given to ${cluster} to run`} icon="list">A work is a set of manifests. <code>drover apply -f work.yaml</code> stores one; its namespace is the cluster's name.</Empty>
        : <DataTable label={`Works of ${cluster}`} rows={table.list()} columns={WORKS} keyOf={(w) => w.name} first="phase" />}
    </Guard>
  );
}

const ADDONS: Column<InstalledRow>[] = [
  { key: "name", label: "Addon", cell: (a) => <a class="main" href={to("addons", a.name)}>{a.name}</a>, sort: (a) => a.name },
  { key: "version", label: "Version", cell: (a) => (a.version ? <a href={to("addons", a.name, "versions", a.version)}>{a.version}</a> : <span class="faint">–</span>), sort: (a) => a.version },
  { key: "phase", label: "Phase", cell: (a) => <Status word={a.phase} />, sort: (a) => order("addon", a.phase) },
  { key: "desired", label: "Desired", cell: (a) => <Digest of={a.desired} /> },
  { key: "applied", label: "Applied", cell: (a) => (a.applied && a.applied === a.desired ? <span class="dim">the same</span> : <Digest of={a.applied} />) },
  { key: "since", label: "Since", cell: (a) => <Age at={a.since} />, sort: (a) => -seconds(a.since), num: true },
  { key: "reason", label: "Reason", cell: (a) => <span class="dim" title={a.reason}>{hueOf(a.phase) === "ok" ? "" : a.reason}</span>, kind: "wide" },
  { key: "do", label: "", cell: (a) => <button class="btn tiny" onClick={() => setQuery({ why: a.name })} aria-label={`Why ${a.name} is as it is`}>Why</button>, kind: "end" },
];

/** Why shows what the hub knows of one addon on the cluster, and the way of each of its works. */
function Why({ cluster, name, works }: { cluster: string; name: string; works: WorkRow[] }) {
  const { object, table } = useObject<ManagedClusterAddOn>(installed, cluster, name);
  const close = useRef<HTMLButtonElement>(null);
  useEffect(() => close.current?.focus(), [name]);
  return (
    <section class="stack" aria-label={`Why ${name} is as it is`}>
      <div class="row"><h2>Why {name} is as it is</h2><button ref={close} class="btn tiny push" onClick={() => setQuery({ why: "" })}>Close</button></div>
      <Guard of={table} what={name}>{() => <section class="card"><header><h3>Conditions</h3></header><Conditions list={object?.status?.conditions} generation={object?.metadata?.generation} /></section>}</Guard>
      {works.map((w) => (
        <section class="card" key={w.name}>
          <header><h3>Work <a href={to("clusters", cluster, "works", w.name)}>{w.name}</a></h3><span class="push"><Status word={w.phase} /></span></header>
          <div class="in"><Evidence cluster={cluster} name={w.name} stamp={w.phase + w.generation + w.reported} /></div>
        </section>
      ))}
      {works.length === 0 && <p class="dim">The hub has made no work of it yet.</p>}
    </section>
  );
}

export function AddonsOf({ cluster, table, works }: { cluster: string; table: Table<InstalledRow>; works: Table<WorkRow> }) {
  const why = query("why");
  return (
    <Guard of={table} what="the addons of this cluster">
      {() => table.list().length === 0
        ? <Empty title={`No addon is installed on ${cluster}`} icon="addon" actions={<a class="btn" href="/addons">To the addons</a>} />
        : (
          <>
            <DataTable label={`Addons of ${cluster}`} rows={table.list()} columns={ADDONS} keyOf={(a) => a.name} first="phase" />
            {why && table.list().some((a) => a.name === why) && <Why key={why} cluster={cluster} name={why} works={works.list().filter((w) => w.addon === why)} />}
          </>
        )}
    </Guard>
  );
}
