// Who changed what, and who was refused. The filter is the hub's own, in the address.

import "../common";
import { useEffect, useState } from "preact/hooks";
import { get, Refusal, say } from "../client";
import { clockTime, exact, seconds } from "../format";
import { words } from "../filter";
import { Action } from "../parts/button";
import { Note } from "../parts/dialog";
import { Code } from "../parts/code";
import { FieldDiff } from "../parts/diff";
import { Search } from "../parts/search";
import { Empty, Failed, Forbidden, Loading } from "../parts/states";
import { Status } from "../parts/status";
import { Head } from "../parts/title";
import { query, setQuery } from "../router";
import { fieldsOf } from "../fields";
import type { Hue } from "../words";

export type Event = {
  auditID: string; verb: string; level?: string; user: { username: string; groups?: string[] }; impersonatedUser?: { username: string };
  sourceIPs?: string[]; userAgent?: string; requestURI: string;
  objectRef?: { resource?: string; namespace?: string; name?: string; subresource?: string; apiGroup?: string };
  responseStatus?: { code?: number; reason?: string; message?: string };
  requestObject?: unknown; responseObject?: unknown; stageTimestamp: string; annotations?: Record<string, string>;
};

const FIELDS = ["user", "verb", "resource", "namespace", "name", "since", "until"];
const UNITS: Record<string, number> = { s: 1, m: 60, h: 3600, d: 86400 };

/** time reads "24h", "7d" or a date. */
export function time(text: string, now: number): string | undefined {
  const m = /^(\d+)([smhd])$/.exec(text);
  const at = m ? now - Number(m[1]) * UNITS[m[2]!]! * 1000 : Date.parse(text);
  return Number.isNaN(at) ? undefined : new Date(at).toISOString().replace(/\.\d+/, "");
}

/** ask makes the hub's parameters of the filter's text. */
export function ask(text: string, now: number): { params: URLSearchParams; problem?: string } {
  const params = new URLSearchParams();
  let problem: string | undefined;
  for (const w of words(text)) {
    const [name, ...rest] = w.split(":");
    const value = rest.join(":");
    if (!FIELDS.includes(name!) || rest.length === 0) problem = `“${w}”: want one of ${FIELDS.map((f) => f + ":").join(" ")}`;
    else if (value && (name === "since" || name === "until")) {
      const t = time(value, now);
      if (t) params.set(name, t);
      else problem = `“${value}” is no time; want 24h, 7d or 2006-01-02T15:04:05Z`;
    } else if (value) params.set(name!, value);
  }
  return problem ? { params, problem } : { params };
}

const NOTES: [string, (v: string) => string][] = [
  ["audit.drover.io/dry-run", () => "dry run"], ["audit.drover.io/removed", (v) => `removed ${v}`], ["enroll.drover.io/cluster", (v) => `cluster ${v}`],
  ["enroll.drover.io/approved-by", (v) => `approved by ${v}`], ["audit.drover.io/suppressed", (v) => `${v} refusals before this one were only counted`],
  ["audit.drover.io/not-recorded", (v) => `${v} requests before this one are missing`],
];

export function notes(ev: Event): string {
  return [ev.responseStatus?.reason, ...NOTES.map(([key, text]) => (ev.annotations?.[key] ? text(ev.annotations[key]) : ""))].filter(Boolean).join(", ");
}

const objectOf = (ev: Event): string => {
  const r = ev.objectRef;
  return r ? [r.resource + (r.subresource ? "/" + r.subresource : ""), r.namespace, r.name].filter(Boolean).join(" ") : ev.requestURI;
};

const outcome = (ev: Event): [Hue, string] => {
  const code = ev.responseStatus?.code ?? 0;
  return code === 401 || code === 403 ? ["warn", "refused"] : code >= 400 ? ["bad", "failed"] : ["ok", "done"];
};

const METADATA = /^metadata\.(managedFields|resourceVersion|uid|generation|creationTimestamp)/;

function Detail({ event: ev }: { event: Event }) {
  const sent = ev.requestObject ? fieldsOf(ev.requestObject).filter((f) => !METADATA.test(f.path)) : [];
  return (
    <div class="detail">
      <dl class="facts small">
        <dt>Time</dt><dd>{exact(seconds(ev.stageTimestamp))}</dd>
        <dt>User</dt><dd>{ev.user.username}{ev.impersonatedUser && ` as ${ev.impersonatedUser.username}`} {ev.user.groups?.length ? <span class="dim">({ev.user.groups.join(", ")})</span> : ""}</dd>
        <dt>From</dt><dd>{ev.sourceIPs?.join(", ") || "–"} <span class="dim">{ev.userAgent}</span></dd>
        <dt>Request</dt><dd><code>{ev.requestURI}</code></dd>
        <dt>Result</dt><dd>{ev.responseStatus?.code} {ev.responseStatus?.message}</dd>
        <dt>Record</dt><dd><code>{ev.annotations?.["audit.drover.io/sequence"]}</code> <span class="dim break">hash {ev.annotations?.["audit.drover.io/hash"]}</span></dd>
      </dl>
      {sent.length > 0 && <FieldDiff title="What was sent" changes={sent.slice(0, 300).map((f) => ({ path: f.path, after: f.value }))} />}
      {Boolean(ev.responseObject) && <details><summary class="dim small">What was stored</summary><Code text={JSON.stringify(ev.responseObject, null, 2)} wrap /></details>}
      <div class="row">
        <button class="btn tiny" onClick={() => setQuery({ q: `user:${ev.user.username}` })}>All of this user</button>
        {ev.objectRef?.name && <button class="btn tiny" onClick={() => setQuery({ q: [`resource:${ev.objectRef!.resource}`, ev.objectRef!.namespace && `namespace:${ev.objectRef!.namespace}`, `name:${ev.objectRef!.name}`].filter(Boolean).join(" ") })}>All of this object</button>}
      </div>
    </div>
  );
}

type Report = { records: number; first: number; last: number; head: string; breaks: number; firstBad?: { sequence: number; reason: string } };

function Verify() {
  const [report, setReport] = useState<Report | undefined>();
  return (
    <>
      <Action run={async () => setReport(await get<Report>("/audit/verify"))}>Verify the chain</Action>
      {report && (
        <div class="head"><div class="lead" role="status">{report.breaks > 0
          ? <Note hue="bad">The audit log is damaged at record {report.firstBad?.sequence}: {report.firstBad?.reason}. Compare with a backup of the hub.</Note>
          : <Note hue="ok">The chain of {report.records} records is whole, from {report.first} to {report.last}. Its head is <code>{report.head}</code>; keep it elsewhere: it proves later that nothing up to here was rewritten.</Note>}</div></div>
      )}
    </>
  );
}

export function Audit(_: { params: Record<string, string> }) {
  const text = query("q"), limit = Number(query("limit")) || 100;
  const [events, setEvents] = useState<Event[] | undefined>();
  const [wrong, setWrong] = useState<Refusal | Error | undefined>();
  const [busy, setBusy] = useState(false);
  const asked = ask(text, Date.now());
  const key = asked.params.toString().replace(/(since|until)=[^&]*/g, "$1") + text + limit;
  useEffect(() => {
    const aborter = new AbortController();
    const wait = setTimeout(() => {
      setBusy(true);
      asked.params.set("limit", String(limit));
      get<{ items: Event[] }>("/audit?" + asked.params, aborter.signal).then((l) => {
        setEvents(l.items);
        setWrong(undefined);
        setBusy(false);
      }, (e: Error) => {
        if (aborter.signal.aborted) return;
        setWrong(e);
        setBusy(false);
      });
    }, events ? 250 : 0);
    return () => {
      clearTimeout(wait);
      aborter.abort();
    };
  }, [key]);
  let day = "";
  return (
    <>
      <Head title="Audit" lead="Every change through the API and everybody who was refused, in a chain of hashes." actions={<Verify />} />
      <div class="toolbar"><Search label="Filter the audit log" hint="user:jane  verb:delete  resource:manifestworks  since:24h" problem={asked.problem} suggest={FIELDS.map((f) => f + ":")} />{busy && <span class="spin" role="status" aria-label="Loading" />}</div>
      {wrong instanceof Refusal && wrong.status === 403 ? <Forbidden what="the audit log" message={wrong.message} />
        : wrong && !events ? <Failed what="the audit log" message={say(wrong)} />
          : !events ? <Loading what="the audit log" />
            : events.length === 0 ? <Empty title="No records fit the filter" icon="audit" actions={<button class="btn" onClick={() => setQuery({ q: "" })}>Clear the filter</button>} />
              : (
                <section class="card events" aria-label="Records, the newest first">
                  {events.map((ev) => {
                    const d = new Date(ev.stageTimestamp).toLocaleDateString(undefined, { weekday: "long", year: "numeric", month: "long", day: "numeric" });
                    const head = d !== day && <div class="day">{(day = d)}</div>;
                    const [hue, word] = outcome(ev);
                    return (
                      <>
                        {head}
                        <details key={ev.auditID + ev.stageTimestamp}>
                          <summary class="event">
                            <time class="dim nowrap" dateTime={ev.stageTimestamp} title={exact(seconds(ev.stageTimestamp))}>{clockTime(seconds(ev.stageTimestamp))}</time>
                            <span class="clip who" title={ev.user.username}>{ev.user.username}</span><span class="strong verb">{ev.verb}</span>
                            <span class="clip obj">{objectOf(ev)} <span class="dim">{notes(ev)}</span></span>
                            <span class="end">{hue === "ok" ? <span class="faint">{word}</span> : <Status word={word} hue={hue} />}</span>
                          </summary>
                          <Detail event={ev} />
                        </details>
                      </>
                    );
                  })}
                </section>
              )}
      {events && events.length >= limit && limit < 5000 && <div><button class="btn" onClick={() => setQuery({ limit: String(Math.min(5000, limit * 3)) })}>Show older records</button></div>}
    </>
  );
}
