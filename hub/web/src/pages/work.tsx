// One work on one cluster: what is wanted, what is there, what differs, and why.

import "../common";
import { useState } from "preact/hooks";
import type { ManifestCondition, ManifestWork, WorkRevision } from "../api";
import { patch, send } from "../client";
import { plural } from "../format";
import { Action } from "../parts/button";
import { Conditions } from "../parts/conditions";
import { ConfirmName, Note } from "../parts/dialog";
import { Evidence } from "../parts/evidence";
import { Icon } from "../parts/icon";
import { ObjectNotes, Objects } from "../parts/objects";
import { Source } from "../parts/source";
import { Guard } from "../parts/states";
import { Age, Digest, Status } from "../parts/status";
import { Head } from "../parts/title";
import { toast } from "../parts/toast";
import { apiVersion, at, revisions, works } from "../resources";
import { query, setQuery, to } from "../router";
import { useList, useObject, useRowsOf } from "../rows";
import { useWhyNot } from "../session";
import { action, hueOf } from "../words";
import { documents } from "../yaml";
import { NotFound } from "./screens";

const APPROVE = "fleet.drover.io/approve-prune", PRUNE = "fleet.drover.io/prune", BUNDLE = "fleet.drover.io/bundle";
const PROTECTED = ["Namespace", "CustomResourceDefinition", "PersistentVolumeClaim"];

const annotate = (cluster: string, name: string, annotations: Record<string, string>) => patch(at(works, cluster, name), { metadata: { annotations } });

function Plan({ work: w, cluster, name }: { work: ManifestWork; cluster: string; name: string }) {
  const plan = w.status?.prunePlan;
  const why = useWhyNot({ verb: "patch", on: works, namespace: cluster, name });
  if (!plan) return null;
  const approved = w.metadata?.annotations?.[APPROVE] === plan.id;
  const words = action("approve-prune", name);
  const submit = async () => {
    await annotate(cluster, name, { [APPROVE]: plan.id });
    toast({ text: `The removal of ${plural(plan.total ?? 0, "object")} is approved.` });
  };
  return (
    <section class="card">
      <header><Status word="Held" hue="warn">A removal waits for a word</Status><span class="actions">{approved ? <Status word="busy" hue="busy">Approved, the agent carries it out</Status> : <Action kind="danger" why={why} run={() => setQuery({ do: "prune" }, {})}>{words.verb}…</Action>}</span></header>
      <div class="in stack">
        <p>{plan.total === 1 ? "This object" : `These ${plan.total} objects`} will be deleted on cluster {cluster}: {plan.reason === "ProtectedKinds" ? "among them kinds with which more goes than themselves" : "more than one change may remove by itself"}. To keep them, put them back into the work instead.</p>
        <ObjectNotes list={plan.objects} total={plan.total} />
      </div>
      {query("do") === "prune" && !approved && (
        <ConfirmName title="Approve the removal" name={name} what="work" action={words.verb} onClose={() => setQuery({ do: "" })} submit={submit}>
          <p>{words.consequence}</p><ObjectNotes list={plan.objects} total={plan.total} />
        </ConfirmName>
      )}
    </section>
  );
}

function Remove({ work: w, cluster, name, close }: { work: ManifestWork; cluster: string; name: string; close: () => void }) {
  const words = action("remove-work", name);
  const orphan = w.spec.deleteOption?.propagationPolicy === "Orphan";
  const grave = (w.status?.resourceStatus?.manifests ?? []).map((m) => m.resourceMeta).filter((m) => PROTECTED.includes(m.kind ?? ""));
  const submit = async () => {
    await send("DELETE", at(works, cluster, name));
    // The name was typed: kinds that are never removed without a word go as well. After
    // the deletion, so that undo does not bring the word back.
    await annotate(cluster, name, { [PRUNE]: "Unguarded" }).catch(() => {});
    toast({ text: `Work ${name} is being removed; its agent cleans up and reports.` });
  };
  return (
    <ConfirmName title={`Remove work ${name}`} name={name} what="work" action={words.verb} onClose={close} submit={submit}>
      <p>{orphan ? `Work ${name} will be removed; the objects that it applied on cluster ${cluster} stay there.` : words.consequence}</p>
      {!orphan && grave.length > 0 && <Note hue="warn">With these goes all that is in them:<ObjectNotes list={grave.map((g) => ({ kind: g.kind ?? "", namespace: g.namespace ?? "", name: g.name ?? "" }))} total={grave.length} /></Note>}
      <p class="dim small">The hub keeps the work for seven days: it can be brought back here.</p>
    </ConfirmName>
  );
}

function restored(r: WorkRevision, live: ManifestWork | undefined, cluster: string): Promise<unknown> {
  const meta = { name: r.spec.work, namespace: cluster, labels: r.spec.labels ?? {}, annotations: r.spec.annotations ?? {} };
  const next = { apiVersion: apiVersion(works), kind: works.kind, spec: r.spec.workSpec };
  if (!live) return send("POST", at(works, cluster), { ...next, metadata: meta });
  return send("PUT", at(works, cluster, r.spec.work), { ...live, ...next, metadata: { ...live.metadata, labels: meta.labels, annotations: meta.annotations } });
}

function History({ cluster, name, live }: { cluster: string; name: string; live: ManifestWork | undefined }) {
  const table = useList<WorkRevision>(revisions, cluster);
  const why = useWhyNot({ verb: live ? "update" : "create", on: works, namespace: cluster, name: live ? name : "" });
  if (table.state.value !== "ready") return null;
  const list = table.list().filter((r) => r.spec.work === name).sort((a, b) => b.spec.revision - a.spec.revision);
  if (list.length === 0) return null;
  const going = live?.metadata?.deletionTimestamp ? "It is still being removed: its agent has to report first." : undefined;
  const undo = async (r: WorkRevision) => {
    await restored(r, live, cluster);
    toast({ text: `Work ${name} is as it was at revision ${r.spec.revision}.`, hue: "ok" });
  };
  return (
    <section class="card">
      <header><h2>What was taken away</h2><span class="dim small push">kept for seven days</span></header>
      <ul class="objects">
        {list.map((r) => (
          <li class="object" key={r.spec.revision}>
            <span><b class="strong">Revision {r.spec.revision}</b> <span class="dim">before {r.spec.message || r.spec.reason}, by {r.spec.by || "unknown"}, <Age at={r.metadata?.creationTimestamp} suffix=" ago" />; kept until <Age at={r.spec.expiresAt} /></span></span>
            <Action kind="tiny" why={why ?? going} run={() => undo(r)}><Icon name="undo" size={14} />Bring back</Action>
          </li>
        ))}
      </ul>
    </section>
  );
}

export function Work({ params }: { params: Record<string, string> }) {
  const cluster = params.name!, name = params.work!;
  const { object: w, table } = useObject<ManifestWork>(works, cluster, name);
  const row = useRowsOf("works", cluster).row(cluster + "/" + name);
  const mayRemove = useWhyNot({ verb: "delete", on: works, namespace: cluster, name });
  const [content, setContent] = useState(false);
  const crumbs: [string, string][] = [["Fleet", "/"], [cluster, to("clusters", cluster)], ["Works", to("clusters", cluster, "works")]];
  if (table.state.value === "ready" && !w) {
    return <><Head title={name} crumbs={crumbs} /><NotFound what="work" name={name} /><History cluster={cluster} name={name} live={undefined} /></>;
  }
  const hue = row ? hueOf(row.phase) : "none";
  const manifests = w?.spec.workload?.manifests ?? [];
  const bundle = w?.metadata?.annotations?.[BUNDLE];
  return (
    <>
      <Head title={name} tab={`${name} on ${cluster}`} crumbs={crumbs} beside={row && <Status word={row.phase} />}
        actions={w && <Action kind="danger" why={w.metadata?.deletionTimestamp ? "It is being removed." : mayRemove} run={() => setQuery({ do: "remove" }, {})}>Remove…</Action>} />
      <Guard of={table} what="this work">
        {() => w && (
          <>
            {row?.reason && hue !== "ok" && <Note hue={hue}>{row.reason}</Note>}
            <Plan work={w} cluster={cluster} name={name} />
            {w.status?.remaining && (w.status.remaining.total ?? 0) > 0 && <Note hue="busy">Being removed, and still there:<ObjectNotes list={w.status.remaining.objects} total={w.status.remaining.total} /></Note>}
            <div class="statline">
              <div><span class="label">Since</span><span class="big"><Age at={row?.since} /></span></div>
              <div><span class="label">Generation</span><span class="big">{w.metadata?.generation}</span><span class="dim small">{row && (row.reported === row.generation ? "reported on" : `the cluster reported on ${row.reported || "none"}`)}</span></div>
              <div><span class="label">Applied digest</span><span class="big"><Digest of={w.status?.appliedDigest} /></span>{bundle && <span class="dim small">with bundle <Digest of={bundle} /></span>}</div>
              <div><span class="label">Objects</span><span class="big">{row?.objects ?? "–"}</span><span class="dim small">{row?.unhealthy ? `${row.unhealthy} not ready` : row?.drifted ? `${row.drifted} drifted` : row?.objects ? "as desired" : "reported so far"}</span></div>
            </div>
            <section class="card"><header><h2>Why it is so</h2><span class="dim small push">the first line that is not done is the cause</span></header><div class="in"><Evidence cluster={cluster} name={name} stamp={w.metadata?.resourceVersion} /></div></section>
            <Objects list={w.status?.resourceStatus?.manifests as ManifestCondition[] | undefined} summary={w.status?.summary} />
            <section class="card"><header><h2>Conditions</h2></header><Conditions list={w.status?.conditions} generation={w.metadata?.generation} /></section>
            <History cluster={cluster} name={name} live={w} />
            {content || location.hash.startsWith("#L") ? <Source title="Manifests" text={documents(manifests)} />
              : manifests.length > 0 && <div><button class="btn" onClick={() => setContent(true)}>Show {plural(manifests.length, "manifest")}</button></div>}
            {query("do") === "remove" && <Remove work={w} cluster={cluster} name={name} close={() => setQuery({ do: "" })} />}
          </>
        )}
      </Guard>
    </>
  );
}
