// What can be done about a cluster. What can be taken back offers that; before what
// cannot, the name is typed.

import { useId, useState } from "preact/hooks";
import type { ManagedCluster } from "../api";
import { patch, send } from "../client";
import { Action } from "../parts/button";
import { ConfirmName, FormDialog } from "../parts/dialog";
import { Icon } from "../parts/icon";
import { LabelsField, read, written } from "../parts/labels";
import { toast } from "../parts/toast";
import { at, clusters, identities } from "../resources";
import { go, query, setQuery } from "../router";
import { useWhyNot } from "../session";
import { action } from "../words";

const kept = (key: string): boolean => /open-cluster-management\.io\//.test(key);

function split(labels: Record<string, string> | undefined): Record<string, string> {
  return Object.fromEntries(Object.entries(labels ?? {}).filter(([k]) => !kept(k)));
}

/** change is what takes labels from one state to another, as a merge patch. */
export function change(from: Record<string, string>, to: Record<string, string>): Record<string, string | null> {
  const out: Record<string, string | null> = {};
  for (const k of Object.keys(from)) if (!(k in to)) out[k] = null;
  for (const [k, v] of Object.entries(to)) if (from[k] !== v) out[k] = v;
  return out;
}

function EditLabels({ cluster, close }: { cluster: ManagedCluster; close: () => void }) {
  const name = cluster.metadata!.name!;
  const before = split(cluster.metadata!.labels);
  const [text, setText] = useState(written(before));
  const { labels, problem } = read(text);
  const what = change(before, labels);
  const why = problem ? "A label is not valid." : Object.keys(what).length === 0 ? "Nothing is changed." : undefined;
  const submit = async () => {
    await patch(at(clusters, "", name), { metadata: { labels: what } });
    toast({ text: `${name} is labelled.`, hue: "ok", undo: () => patch(at(clusters, "", name), { metadata: { labels: change(labels, before) } }) });
  };
  return (
    <FormDialog title={`Labels of ${name}`} kind="panel" onClose={close} submit={submit} action="Save" why={why}>
      <p class="dim">Placements choose clusters by their labels, and the fleet is grouped by them. Those that the hub keeps itself are not listed.</p>
      <LabelsField text={text} change={setText} />
      {Object.keys(what).length > 0 && !problem && (
        <ul class="small mono">{Object.entries(what).map(([k, v]) => <li key={k} class={v === null ? "minus" : "plus"}>{v === null ? `− ${k}=${before[k]}` : k in before ? `± ${k}=${before[k]} → ${v}` : `+ ${k}=${v}`}</li>)}</ul>
      )}
    </FormDialog>
  );
}

function Revoke({ name, close }: { name: string; close: () => void }) {
  const [reason, setReason] = useState("");
  const id = useId();
  const words = action("revoke-cluster", name);
  const submit = async () => {
    await patch(at(identities, "", name), { spec: { revoked: true, reason: reason.trim() || undefined } });
    toast({ text: `The agent of ${name} is revoked.` });
  };
  return (
    <ConfirmName title={`Revoke the agent of ${name}`} name={name} what="cluster" action={words.verb} onClose={close} submit={submit}>
      {words.consequence.split("\n").map((l) => <p key={l}>{l}</p>)}
      <div class="field"><label for={id}>Reason <span class="dim">(for the record)</span></label><input id={id} class="input" value={reason} placeholder="stolen laptop" onInput={(e) => setReason(e.currentTarget.value)} /></div>
    </ConfirmName>
  );
}

function Remove({ name, close }: { name: string; close: () => void }) {
  const words = action("remove-cluster", name);
  const submit = async () => {
    await send("DELETE", at(clusters, "", name));
    toast({ text: `${name} is being removed.` });
    setTimeout(() => go("/"));
  };
  return (
    <ConfirmName title={`Remove ${name}`} name={name} what="cluster" action={words.verb} onClose={close} submit={submit}>
      {words.consequence.split("\n").map((l) => <p key={l}>{l}</p>)}
    </ConfirmName>
  );
}

export function ClusterActions({ cluster }: { cluster: ManagedCluster }) {
  const name = cluster.metadata!.name!;
  const accepted = cluster.spec.hubAcceptsClient, going = Boolean(cluster.metadata!.deletionTimestamp);
  const away = going ? "It is being removed." : undefined;
  const mayLabel = useWhyNot({ verb: "patch", on: clusters, name });
  const mayAccept = useWhyNot({ verb: "accept", on: clusters, name });
  const mayRevoke = useWhyNot({ verb: "revoke", on: identities, name });
  const mayRemove = useWhyNot({ verb: "delete", on: clusters, name });
  const dialog = query("do");
  const ask = (what: string) => () => setQuery({ do: what }, {});
  const close = () => setQuery({ do: "" });
  const set = (value: boolean) => patch(at(clusters, "", name), { spec: { hubAcceptsClient: value } });
  const accept = async () => {
    await set(!accepted);
    toast({ text: accepted ? `The agent of ${name} is refused, and its session closed.` : `The agent of ${name} is accepted.`, undo: () => set(accepted) });
  };
  return (
    <>
      <Action why={away ?? mayLabel} run={ask("labels")}><Icon name="edit" />Edit labels</Action>
      <Action why={away ?? mayAccept} run={accept}>{accepted ? "Refuse agent" : "Accept agent"}</Action>
      <Action kind="danger" why={away ?? mayRevoke} run={ask("revoke")}>Revoke…</Action>
      <Action kind="danger" why={away ?? mayRemove} run={ask("remove")}>Remove…</Action>
      {dialog === "labels" && <EditLabels cluster={cluster} close={close} />}
      {dialog === "revoke" && <Revoke name={name} close={close} />}
      {dialog === "remove" && <Remove name={name} close={close} />}
    </>
  );
}
