// Who I am, what I may do, and through which browsers and tokens the hub is reached.

import "../common";
import { useEffect, useState } from "preact/hooks";
import type { AccessRow, SessionRow } from "../api";
import { say, send } from "../client";
import { useWhyNot } from "../session";
import { who, logout } from "../session";
import { Action } from "../parts/button";
import { FormDialog, Note } from "../parts/dialog";
import { Icon } from "../parts/icon";
import { Empty, Loading } from "../parts/states";
import { Age } from "../parts/status";
import { DataTable, type Column } from "../parts/table";
import { Head } from "../parts/title";
import { toast } from "../parts/toast";
import * as kinds from "../resources";
import { query, setQuery } from "../router";
import { useTable } from "../rows";
import { action } from "../words";

type Rule = { verbs: string[]; apiGroups?: string[]; resources?: string[]; resourceNames?: string[] };
type Path = { verbs: string[]; nonResourceURLs?: string[] };
type Review = { status: { resourceRules: Rule[]; nonResourceRules: Path[]; incomplete: boolean; evaluationError?: string } };

const VERBS = ["get", "list", "watch", "create", "patch", "delete"];
const ROWS: [string, kinds.Resource, string[]][] = [
  ["Clusters", kinds.clusters, ["accept"]], ["Join requests", kinds.requests, ["approve"]], ["Join tokens", kinds.tokens, []], ["Identities", kinds.identities, ["revoke"]],
  ["Works", kinds.works, []], ["What works were", kinds.revisions, []], ["Addons", kinds.addons, []], ["Addon versions", kinds.versions, []], ["Installed addons", kinds.installed, []],
  ["Samples", kinds.metrics, []], ["Sessions", kinds.sessions, []],
];

/** may says whether rules allow a verb: on all, on some named ones, or not. */
export function may(rules: Rule[], verb: string, k: { group: string; plural: string }): "all" | "some" | "" {
  const fits = (list: string[] | undefined, v: string) => Boolean(list?.includes("*") || list?.includes(v));
  const hits = rules.filter((r) => fits(r.verbs, verb) && fits(r.apiGroups, k.group) && fits(r.resources, k.plural));
  return hits.some((r) => !r.resourceNames?.length) ? "all" : hits.length ? "some" : "";
}

function Matrix() {
  const [review, setReview] = useState<Review | undefined>();
  const [wrong, setWrong] = useState("");
  const namespace = query("in");
  useEffect(() => {
    send<Review>("POST", "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews", { apiVersion: "authorization.k8s.io/v1", kind: "SelfSubjectRulesReview", spec: { namespace: namespace || "default" } })
      .then(setReview, (e: unknown) => setWrong(say(e)));
  }, [namespace]);
  if (wrong) return <Note hue="bad">{wrong}</Note>;
  if (!review) return <Loading what="your rights" />;
  const rules = review.status.resourceRules;
  const cell = (verb: string, k: kinds.Resource) => {
    const m = may(rules, verb, k);
    return <td class={m ? "yes" : "no"} title={m === "some" ? "some, by name" : undefined}>{m === "all" ? <Icon name="check" size={14} /> : m === "some" ? "some" : "–"}<span class="sr">{m ? "allowed" : "not allowed"}</span></td>;
  };
  const paths = review.status.nonResourceRules.flatMap((p) => (p.nonResourceURLs ?? []).map((u) => `${p.verbs.join(", ")} ${u}`));
  return (
    <div class="stack">
      {review.status.incomplete && <Note hue="none">The list may lack rights that come from sets of clusters. A button that you may not use says so.</Note>}
      <div class="scroller" tabIndex={0} role="region" aria-label="My rights"><table class="grid matrix" aria-label="What I may do">
        <thead><tr><th scope="col">On</th>{VERBS.map((v) => <th key={v} scope="col">{v}</th>)}<th scope="col">besides</th></tr></thead>
        <tbody>{ROWS.map(([label, k, more]) => <tr key={label}><th scope="row">{label}</th>{VERBS.map((v) => cell(v, k))}<td>{more.filter((v) => may(rules, v, k)).join(", ") || <span class="faint">–</span>}</td></tr>)}</tbody>
      </table></div>
      {paths.length > 0 && <p class="dim small">Paths: {[...new Set(paths)].join("; ")}</p>}
    </div>
  );
}

const SESSIONS = (why: string | undefined): Column<SessionRow>[] => [
  { key: "user", label: "User", cell: (s) => <span class="strong">{s.user}{s.name === who.value?.session && <> <span class="pill busy">this one</span></>}</span>, sort: (s) => s.user },
  { key: "method", label: "By", cell: (s) => s.issuer || s.method, sort: (s) => s.method },
  { key: "address", label: "From", cell: (s) => <code>{s.address}</code>, sort: (s) => s.address },
  { key: "seen", label: "Last seen", cell: (s) => <Age at={s.lastSeen} suffix=" ago" />, sort: (s) => -s.lastSeen, num: true },
  { key: "expires", label: "Ends", cell: (s) => <Age at={s.expires} />, sort: (s) => s.expires, num: true },
  { key: "browser", label: "Browser", cell: (s) => <span class="dim" title={s.browser}>{s.browser}</span>, kind: "wide" },
  { key: "do", label: "", cell: (s) => <Action kind="tiny danger" why={why} run={() => setQuery({ end: s.name }, {})} label={`End the session of ${s.user}`}>End…</Action>, kind: "end" },
];

const TOKENS: Column<AccessRow>[] = [
  { key: "name", label: "Token", cell: (t) => <span class="strong mono">{t.name}</span>, sort: (t) => t.name },
  { key: "user", label: "Is", cell: (t) => <span title={t.groups?.join(", ")}>{t.user}</span>, sort: (t) => t.user },
  { key: "by", label: "Made by", cell: (t) => t.createdBy, sort: (t) => t.createdBy },
  { key: "used", label: "Last used", cell: (t) => <Age at={t.lastUsed} suffix=" ago" none="never" />, sort: (t) => -t.lastUsed, num: true },
  { key: "expires", label: "Expires", cell: (t) => <Age at={t.expires} suffix=" ago" />, sort: (t) => t.expires, num: true },
  { key: "what", label: "For", cell: (t) => <span class="dim">{t.description}</span>, kind: "wide" },
];

function End({ session: s, close }: { session: SessionRow; close: () => void }) {
  const words = action("end-session", s.user);
  const submit = async () => {
    if (s.name === who.value?.session) return logout();
    await send("DELETE", kinds.at(kinds.sessions, "", s.name));
    toast({ text: `The session of ${s.user} is ended.` });
  };
  return <FormDialog title={`End the session of ${s.user}`} onClose={close} submit={submit} action={words.verb} danger><p>{words.consequence}</p></FormDialog>;
}

export function Access(_: { params: Record<string, string> }) {
  const sessions = useTable("sessions"), tokens = useTable("access");
  const why = useWhyNot({ verb: "delete", on: kinds.sessions });
  const w = who.value!;
  const end = sessions.list().find((s) => s.name === query("end"));
  return (
    <>
      <Head title="Access" actions={w.session && <Action run={logout}><Icon name="out" />Log out</Action>} />
      <section class="card"><header><h2>Who I am</h2></header><div class="in"><dl class="facts">
        <dt>User</dt><dd class="strong">{w.user}</dd>
        <dt>Groups</dt><dd><span class="tags">{(w.groups ?? []).map((g) => <span key={g} class="tag"><span>{g}</span></span>)}</span></dd>
        {w.session && <><dt>Session</dt><dd><code>{w.session}</code>{w.expires && <span class="dim">, ends <Age at={w.expires} /> at the latest</span>}</dd></>}
      </dl></div></section>
      <section class="stack"><h2>What I may do</h2><Matrix /></section>
      {sessions.state.value === "ready" && <section class="stack"><h2>Browsers that are logged in</h2>{sessions.list().length ? <DataTable label="Sessions" rows={sessions.list()} columns={SESSIONS(why)} keyOf={(s) => s.name} first="seen" /> : <Empty title="No session" icon="person" />}</section>}
      {tokens.state.value === "ready" && tokens.list().length > 0 && <section class="stack"><h2>Access tokens of programs</h2><DataTable label="Access tokens" rows={tokens.list()} columns={TOKENS} keyOf={(t) => t.name} first="name" param="tsort" /><p class="dim small">Made and revoked with <code>drover access</code>.</p></section>}
      {end && <End session={end} close={() => setQuery({ end: "" })} />}
    </>
  );
}
