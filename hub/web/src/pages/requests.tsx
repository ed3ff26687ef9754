// Who asks to join. Approving is comparing: the fingerprint that the hub saw with the
// one that the agent prints on its own machine.

import "../common";
import { useId, useState } from "preact/hooks";
import type { RequestRow } from "../api";
import { patch } from "../client";
import { groups, hexOnly, seconds } from "../format";
import { Action } from "../parts/button";
import { Code } from "../parts/code";
import { FormDialog, Note } from "../parts/dialog";
import { Labels } from "../parts/labels";
import { Empty, Guard } from "../parts/states";
import { Age, Status } from "../parts/status";
import { DataTable, type Column } from "../parts/table";
import { Head } from "../parts/title";
import { toast } from "../parts/toast";
import { at, requests } from "../resources";
import { query, setQuery, to } from "../router";
import { useTable } from "../rows";
import { useWhyNot } from "../session";
import { action, order } from "../words";

/** compared says how what was pasted fits: as a whole, or by its last groups. */
export function compared(fingerprint: string, pasted: string): "none" | "short" | "same" | "different" {
  const hex = hexOnly(pasted);
  if (hex === "") return "none";
  const same = hex.length >= 16 ? fingerprint === hex || fingerprint.endsWith(hex) || fingerprint.startsWith(hex) : fingerprint.endsWith(hex) || fingerprint.slice(-16).startsWith(hex) || fingerprint.startsWith(hex);
  if (!same) return "different";
  return hex.length >= 16 ? "same" : "short";
}

const decide = (name: string, approval: Record<string, unknown>) => patch(at(requests, "", name), { spec: { approval } });

function Approve({ request: r, close }: { request: RequestRow; close: () => void }) {
  const [pasted, setPasted] = useState("");
  const [ticked, setTicked] = useState(false);
  const [replace, setReplace] = useState(false);
  const id = useId();
  const fit = compared(r.fingerprint, pasted);
  const words = action("approve", r.cluster);
  const forbidden = useWhyNot({ verb: "approve", on: requests });
  const why = forbidden ?? (fit === "different" ? "What you pasted is not this fingerprint." : fit !== "same" && !ticked ? "Compare the fingerprints first." : r.rejoin && !replace ? "The name is in use: say that the old agent is to be replaced." : undefined);
  const submit = async () => {
    // What the person compared is sent: the hub refuses another.
    await decide(r.name, { decision: "Approve", fingerprint: r.fingerprint, replace: r.rejoin || undefined });
    toast({ text: `${r.cluster} is approved. Its agent collects the certificate and connects.`, hue: "ok" });
  };
  return (
    <FormDialog title={`Approve ${r.cluster}`} kind="wide" onClose={close} submit={submit} action={words.verb} why={why}>
      <p>{words.consequence} Compare it with what the agent prints on that machine: if they are the same, nobody stands between.</p>
      <div class="cards two">
        <section class="stack">
          <h3>The hub saw</h3>
          <div class="print" role="group" aria-label="Fingerprint that the hub saw">
            {groups(r.fingerprint).map((g, i) => <span key={i} class={fit === "same" ? "good" : fit === "different" ? "wrong" : ""}>{g}</span>)}
          </div>
          <dl class="facts small">
            <dt>Asked</dt><dd><Age at={r.created} suffix=" ago" /> from {r.address || "an unknown address"}</dd>
            <dt>Host</dt><dd>{r.facts?.hostname || "–"}</dd>
            <dt>Kubernetes</dt><dd>{r.facts?.kubernetesVersion || "none, a machine alone"}</dd>
            <dt>Token</dt><dd><a href={"/tokens?q=" + encodeURIComponent(r.token)}>{r.token}</a></dd>
          </dl>
        </section>
        <section class="stack">
          <h3>The agent prints</h3>
          <p class="dim small"><code>drover-agent join</code> prints <code>fingerprint:</code> and the digits first, where it was started, and waits. A daemon that joins by itself has the line in its journal:</p>
          <Code text="journalctl -u drover-agent | grep fingerprint:" label="the command" />
          <div class="field">
            <label for={id}>Paste it here, or type its last two groups</label>
            <input id={id} class="input mono" data-first value={pasted} autocomplete="off" autocapitalize="off" spellcheck={false} aria-invalid={fit === "different" ? "true" : undefined}
              aria-describedby={id + "-says"} onInput={(e) => setPasted(e.currentTarget.value)} />
            <span class="small" id={id + "-says"} role="status">
              {fit === "same" && <Status word="ok">The same fingerprint</Status>}
              {fit === "different" && <Status word="problem">Not the same. Do not approve: somebody else may hold the token.</Status>}
              {fit === "short" && <span class="dim">So far the same; {16 - hexOnly(pasted).length} more digits.</span>}
            </span>
          </div>
          <label class="check"><input type="checkbox" checked={ticked} disabled={fit === "different"} onChange={(e) => setTicked(e.currentTarget.checked)} />I compared all groups by eye, and they are the same</label>
        </section>
      </div>
      {r.rejoin && (
        <div class="note warn">
          <label class="check"><input type="checkbox" checked={replace} onChange={(e) => setReplace(e.currentTarget.checked)} /><span><b class="strong">The name {r.cluster} is in use.</b> Revoke the agent that holds it now, and let this one take its place.</span></label>
        </div>
      )}
    </FormDialog>
  );
}

function Deny({ request: r, close }: { request: RequestRow; close: () => void }) {
  const [reason, setReason] = useState("");
  const id = useId();
  const words = action("deny", r.cluster);
  const why = useWhyNot({ verb: "approve", on: requests });
  const submit = async () => {
    await decide(r.name, { decision: "Deny", reason: reason.trim() || undefined });
    toast({ text: `The request of ${r.cluster} is denied.` });
  };
  return (
    <FormDialog title={`Deny ${r.cluster}`} onClose={close} submit={submit} action={words.verb} danger why={why}>
      <p>{words.consequence}</p>
      <div class="field">
        <label for={id}>Reason <span class="dim">(told to the agent, and kept)</span></label>
        <input id={id} class="input" data-first value={reason} maxLength={256} placeholder="not ours" onInput={(e) => setReason(e.currentTarget.value)} />
      </div>
    </FormDialog>
  );
}

function Buttons({ request: r }: { request: RequestRow }) {
  const why = useWhyNot({ verb: "approve", on: requests });
  if (r.phase !== "Pending") return <span class="dim small">{[r.by && "by " + r.by, r.reason || r.message].filter(Boolean).join(": ")}</span>;
  return (
    <>
      <Action kind="tiny" why={why} run={() => setQuery({ deny: r.name }, {})} label={`Deny ${r.cluster}`}>Deny…</Action>{" "}
      <Action kind="tiny first" why={why} run={() => setQuery({ approve: r.name }, {})} label={`Compare and approve ${r.cluster}`}>Compare…</Action>
    </>
  );
}

const COLUMNS: Column<RequestRow>[] = [
  { key: "cluster", label: "Asks to be", cell: (r) => (r.phase === "Joined" ? <a class="main" href={to("clusters", r.cluster)}>{r.cluster}</a> : <span class="strong">{r.cluster}{r.rejoin && <> <span class="pill warn">in use</span></>}</span>), sort: (r) => r.cluster },
  { key: "phase", label: "Phase", cell: (r) => <Status word={r.phase} />, sort: (r) => order("request", r.phase) },
  { key: "age", label: "Age", cell: (r) => <Age at={r.created} />, sort: (r) => -seconds(r.created), num: true },
  { key: "address", label: "From", cell: (r) => <code>{r.address || "–"}</code>, sort: (r) => r.address },
  { key: "host", label: "Host", cell: (r) => r.facts?.hostname || "–", sort: (r) => r.facts?.hostname },
  { key: "kubernetes", label: "Kubernetes", cell: (r) => r.facts?.kubernetesVersion || <span class="faint">none</span>, sort: (r) => r.facts?.kubernetesVersion },
  { key: "token", label: "Token", cell: (r) => <a href={"/tokens?q=" + encodeURIComponent(r.token)}>{r.token}</a>, sort: (r) => r.token },
  { key: "fingerprint", label: "Fingerprint", cell: (r) => <code title={r.fingerprint}>…{r.fingerprint.slice(-8)}</code> },
  { key: "labels", label: "Labels", cell: (r) => <Labels labels={r.labels} most={2} /> },
  { key: "do", label: "", cell: (r) => <Buttons request={r} />, kind: "end" },
];

export function Requests() {
  const table = useTable("requests");
  const show = query("show");
  const all = table.list();
  const waiting = all.filter((r) => r.phase === "Pending");
  const rows = show === "all" ? all : show === "decided" ? all.filter((r) => r.phase !== "Pending") : waiting;
  const approve = all.find((r) => r.name === query("approve")), deny = all.find((r) => r.name === query("deny"));
  const close = () => setQuery({ approve: "", deny: "" });
  return (
    <>
      <Head title="Join requests" lead="An agent with a token asks to become a cluster. Nothing happens until somebody compared its fingerprint." actions={<a class="btn" href="/tokens?new=1">Create a join token</a>} />
      <Guard of={table} what="join requests">
        {() => (
          <>
            <div class="seg" role="group" aria-label="Which requests">
              {[["", "Waiting", waiting.length], ["decided", "Decided", all.length - waiting.length], ["all", "All", all.length]].map(([value, label, n]) => (
                <button key={value} aria-pressed={show === value} onClick={() => setQuery({ show: String(value) })}>{label}<span class="dim">{n}</span></button>
              ))}
            </div>
            {rows.length === 0
              ? show ? <Empty title="No requests" icon="door" /> : <Empty title="Nobody asks to join" icon="door" actions={<a class="btn" href="/tokens">To the join tokens</a>}>New requests show here at once. Agents need a token to ask.</Empty>
              : <DataTable label="Join requests" rows={rows} columns={COLUMNS} keyOf={(r) => r.name} first={show ? "age" : "age"} />}
          </>
        )}
      </Guard>
      {approve?.phase === "Pending" && <Approve key={approve.name} request={approve} close={close} />}
      {approve && approve.phase !== "Pending" && <Note hue="none">The request of {approve.cluster} is {approve.phase} already.</Note>}
      {deny?.phase === "Pending" && <Deny key={deny.name} request={deny} close={close} />}
    </>
  );
}
