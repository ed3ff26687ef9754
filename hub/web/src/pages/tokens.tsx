// Join tokens: made by the hub, shown once, and revoked at any time.

import "../common";
import { useId, useState } from "preact/hooks";
import type { JoinToken, TokenRow } from "../api";
import { patch, send } from "../client";
import { seconds } from "../format";
import { matcher, parse, type Shape } from "../filter";
import { Action } from "../parts/button";
import { FormDialog } from "../parts/dialog";
import { Icon } from "../parts/icon";
import { Labels, LabelsField, read } from "../parts/labels";
import { Search } from "../parts/search";
import { Empty, Guard } from "../parts/states";
import { Age, hubTime, Status } from "../parts/status";
import { DataTable, type Column } from "../parts/table";
import { Head } from "../parts/title";
import { toast } from "../parts/toast";
import { TokenOnce } from "../parts/tokenonce";
import { apiVersion, at, tokens } from "../resources";
import { query, setQuery, to } from "../router";
import { useTable } from "../rows";
import { useWhyNot } from "../session";
import { action, order, tokenPhase } from "../words";

const LIVES: [label: string, seconds: number][] = [["1 hour", 3600], ["8 hours", 28800], ["1 day", 86400], ["3 days", 259200], ["7 days", 604800]];
const NAME = /^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/;

function Create({ close, made }: { close: () => void; made: (t: JoinToken) => void }) {
  const [cluster, setCluster] = useState(query("cluster"));
  const [uses, setUses] = useState("1");
  const [life, setLife] = useState(3600);
  const [labels, setLabels] = useState("");
  const [auto, setAuto] = useState(false);
  const id = useId();
  const forbidden = useWhyNot({ verb: "create", on: tokens });
  const n = Number(uses);
  const wrongName = cluster !== "" && !NAME.test(cluster) ? "1 to 63 characters of a-z, 0-9 and '-', beginning and ending with a letter or digit" : "";
  const wrongUses = !Number.isInteger(n) || n < 1 || n > 10000 ? "a whole number from 1 to 10000" : "";
  const parsed = read(labels);
  const why = forbidden ?? (wrongName ? "The cluster name is not valid." : wrongUses ? "The number of uses is not valid." : parsed.problem ? "The labels are not valid." : auto && !cluster ? "Approving by itself needs the cluster's name." : undefined);
  const submit = async () => {
    const t = await send<JoinToken>("POST", at(tokens), {
      apiVersion: apiVersion(tokens), kind: tokens.kind, metadata: { generateName: "jt-" },
      spec: { clusterName: cluster || undefined, ttlSeconds: life, uses: n, autoApprove: auto || undefined, labels: parsed.labels },
    });
    made(t);
  };
  return (
    <FormDialog title="Create a join token" kind="panel" onClose={close} submit={submit} action="Create" why={why} keep>
      <p class="dim">An agent shows the token to ask to join. The hub makes it, keeps only its hash, and shows it once.</p>
      <div class="field">
        <label for={id + "n"}>Cluster name <span class="dim">(optional)</span></label>
        <input id={id + "n"} class="input mono" data-first value={cluster} placeholder="the agent chooses" autocomplete="off" spellcheck={false} aria-invalid={wrongName ? "true" : undefined} onInput={(e) => setCluster(e.currentTarget.value.trim())} />
        <span class={wrongName ? "wrong" : "help"}>{wrongName || "The only name it is good for."}</span>
      </div>
      <div class="cards two">
        <div class="field">
          <label for={id + "t"}>Good for</label>
          <select id={id + "t"} class="input" value={String(life)} onChange={(e) => setLife(Number(e.currentTarget.value))}>{LIVES.map(([l, s]) => <option key={s} value={String(s)}>{l}</option>)}</select>
        </div>
        <div class="field">
          <label for={id + "u"}>Clusters that may join with it</label>
          <input id={id + "u"} class="input" inputmode="numeric" value={uses} disabled={cluster !== ""} aria-invalid={wrongUses ? "true" : undefined} onInput={(e) => setUses(e.currentTarget.value)} />
          {wrongUses && <span class="wrong">{wrongUses}</span>}
        </div>
      </div>
      <LabelsField text={labels} change={setLabels} help="Put on the cluster when it joins. One key=value a line." />
      <label class="check">
        <input type="checkbox" checked={auto} onChange={(e) => setAuto(e.currentTarget.checked)} />
        <span>Approve by itself<br /><span class="dim small">No fingerprint is compared: whoever has the token first gets the name. For machines that nobody looks at, on networks that you trust. Needs the cluster's name.</span></span>
      </label>
    </FormDialog>
  );
}

function Revoke({ token: t, close }: { token: TokenRow; close: () => void }) {
  const words = action("revoke-token", t.name);
  const submit = async () => {
    await patch(at(tokens, "", t.name), { spec: { revoked: true } });
    toast({ text: `Join token ${t.name} is revoked.` });
  };
  return <FormDialog title={`Revoke ${t.name}`} onClose={close} submit={submit} action={words.verb} danger><p>{words.consequence}</p></FormDialog>;
}

function RevokeButton({ token: t }: { token: TokenRow }) {
  const why = useWhyNot({ verb: "patch", on: tokens, name: t.name });
  if (t.phase !== "Open") return null;
  return <Action kind="tiny danger" why={why} run={() => setQuery({ revoke: t.name }, {})} label={`Revoke ${t.name}`}>Revoke…</Action>;
}

const COLUMNS: Column<TokenRow>[] = [
  { key: "name", label: "Token", cell: (t) => <span class="strong mono">{t.name}</span>, sort: (t) => t.name },
  { key: "phase", label: "Phase", cell: (t) => <Status word={t.phase} />, sort: (t) => order("token", t.phase) * -1 },
  { key: "cluster", label: "Cluster", cell: (t) => (t.cluster ? <a href={to("clusters", t.cluster)}>{t.cluster}</a> : <span class="faint">any</span>), sort: (t) => t.cluster },
  { key: "uses", label: "Used", cell: (t) => `${t.used} of ${t.uses}`, sort: (t) => t.used, num: true },
  { key: "expires", label: "Expires", cell: (t) => <Age at={t.expires} suffix=" ago" />, sort: (t) => seconds(t.expires), num: true },
  { key: "auto", label: "Approval", cell: (t) => (t.autoApprove ? <span class="pill warn">by itself</span> : <span class="dim">by a person</span>), sort: (t) => Number(t.autoApprove) },
  { key: "labels", label: "Labels", cell: (t) => <Labels labels={t.labels} most={3} /> },
  { key: "age", label: "Age", cell: (t) => <Age at={t.created} />, sort: (t) => -seconds(t.created), num: true },
  { key: "do", label: "", cell: (t) => <RevokeButton token={t} />, kind: "end" },
];

const SHAPE: Shape<TokenRow> = { text: (t) => [t.name, t.cluster], labels: (t) => t.labels, fields: { phase: (t) => t.phase, cluster: (t) => t.cluster } };

export function Tokens() {
  const table = useTable("tokens");
  const [made, setMade] = useState<JoinToken | undefined>();
  const why = useWhyNot({ verb: "create", on: tokens });
  const now = hubTime();
  const all = table.list().map((t) => {
    const phase = tokenPhase(t, now);
    return phase === t.phase ? t : { ...t, phase };
  });
  const text = query("q");
  const parsed = parse(text, Object.keys(SHAPE.fields));
  const rows = text ? all.filter(matcher(parsed, SHAPE)) : all;
  const revoke = all.find((t) => t.name === query("revoke"));
  return (
    <>
      <Head title="Join tokens" lead="A token is the permission to ask to join. What was asked is decided under Join requests."
        actions={<Action kind="first" why={why} run={() => setQuery({ new: "1" }, {})}><Icon name="plus" />Create a join token</Action>} />
      <Guard of={table} what="join tokens">
        {() => all.length === 0
          ? <Empty title="There is no join token" icon="key" actions={<Action kind="first" why={why} run={() => setQuery({ new: "1" }, {})}>Create a join token</Action>}>To let a cluster join, create one and give it to the agent there.</Empty>
          : (
            <>
              <div class="toolbar"><Search label="Filter join tokens" hint="phase:Open  cluster:shop-1  text" problem={parsed.problem} /></div>
              {rows.length === 0 ? <Empty title="No token fits the filter" actions={<button class="btn" onClick={() => setQuery({ q: "" })}>Clear the filter</button>} />
                : <DataTable label="Join tokens" rows={rows} columns={COLUMNS} keyOf={(t) => t.name} first="age" />}
            </>
          )}
      </Guard>
      {query("new") && !made && <Create close={() => setQuery({ new: "", cluster: "" })} made={(t) => { setMade(t); setQuery({ new: "", cluster: "" }); }} />}
      {made && <TokenOnce token={made} close={() => setMade(undefined)} />}
      {revoke?.phase === "Open" && <Revoke token={revoke} close={() => setQuery({ revoke: "" })} />}
    </>
  );
}
