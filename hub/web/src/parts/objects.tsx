// The objects of a work: health in the cluster's own words, warnings, and drift field
// by field.

import { useState } from "preact/hooks";
import type { Drift, ManifestCondition, ObjectNote, Summary } from "../api";
import { count, plainJSON, plural } from "../format";
import { hueOf } from "../words";
import { Age, Status } from "./status";

export const named = (o: { kind?: string; namespace?: string; name?: string }): string => `${o.kind ?? ""} ${o.namespace ? o.namespace + "/" : ""}${o.name ?? ""}`.trim();

export function ObjectNotes({ list = [], total }: { list?: ObjectNote[] | undefined; total?: number | undefined }) {
  const more = (total ?? 0) - list.length;
  return (
    <ul class="small mono">
      {list.map((o, i) => <li key={i} class="break">{named(o)}{o.message && <span class="dim">: {o.message}</span>}</li>)}
      {more > 0 && <li class="dim">and {count(more)} more</li>}
    </ul>
  );
}

function DriftOf({ drift: d }: { drift: Drift }) {
  const more = (d.total ?? 0) - (d.fields?.length ?? 0);
  return (
    <div>
      <p class="small"><Status word={d.state}>{d.state}</Status> <span class="dim">{d.manager && `by ${d.manager} `}<Age at={d.since} suffix=" ago" />{d.corrections ? `, put right ${plural(d.corrections, "time")}` : ""}</span></p>
      {d.fields && d.fields.length > 0 && (
        <table class="drifted">
          <thead><tr><th scope="col">Field</th><th scope="col">Wanted</th><th scope="col">There</th></tr></thead>
          <tbody>{d.fields.map((f) => <tr key={f.path}><td>{f.path}</td><td class="plus">{plainJSON(f.desired || "absent")}</td><td class="minus">{plainJSON(f.live || "absent")}</td></tr>)}</tbody>
        </table>
      )}
      {more > 0 && <p class="dim small">and {plural(more, "more field")}</p>}
    </div>
  );
}

function One({ of: m }: { of: ManifestCondition }) {
  const applied = m.conditions.find((c) => c.type === "Applied");
  const failed = applied?.status === "False";
  const health = failed ? "Failed" : m.health || (applied ? "Unknown" : "Applying");
  const feedback = m.statusFeedback?.values ?? [];
  const value = (v: (typeof feedback)[number]["fieldValue"]) => String(v.integer ?? v.string ?? v.boolean ?? v.jsonRaw ?? "");
  const drift = m.drift;
  return (
    <li class="object">
      <span class="name"><span class="dim">{m.resourceMeta.kind}</span> <b class="strong">{m.resourceMeta.namespace && m.resourceMeta.namespace + "/"}{m.resourceMeta.name}</b></span>
      <span class="row">{drift && <span class={"pill " + hueOf(drift.state)}>drift: {drift.state}</span>}{m.restarts ? <span class="pill warn">{plural(m.restarts, "restart")}</span> : null}<Status word={health} /></span>
      {(failed || m.healthMessage || m.warnings?.length || drift || feedback.length > 0) && (
        <div class="more">
          {failed && <p class="break">{applied.message}</p>}
          {!failed && m.healthMessage && <p class={m.health === "Current" ? "dim break" : "break"}>{m.healthMessage}</p>}
          {m.warnings?.map((w, i) => <p key={i} class="small dim break"><b class="strong">{w.object}</b> {w.reason}: {w.message}{(w.count ?? 1) > 1 && ` (${w.count} times)`} <Age at={w.lastSeen} suffix=" ago" none="" /></p>)}
          {feedback.length > 0 && <span class="tags">{feedback.map((f) => <span key={f.name} class="tag"><span>{f.name}</span><span>{value(f.fieldValue)}</span></span>)}</span>}
          {drift && <DriftOf drift={drift} />}
        </div>
      )}
    </li>
  );
}

const attention = (m: ManifestCondition): number => {
  const hue = hueOf(m.conditions.some((c) => c.type === "Applied" && c.status === "False") ? "Failed" : m.health ?? "");
  return { bad: 0, warn: 1, busy: 2, none: 3, ok: 4 }[hue] - (m.drift ? 0.5 : 0);
};

const FIRST = 40;

export function Objects({ list = [], summary }: { list?: ManifestCondition[] | undefined; summary?: Summary | undefined }) {
  const [all, setAll] = useState(false);
  const ordered = list.slice().sort((a, b) => attention(a) - attention(b) || a.resourceMeta.ordinal - b.resourceMeta.ordinal);
  const shown = all ? ordered : ordered.slice(0, FIRST);
  return (
    <section class="card">
      <header><h2>Objects</h2>{summary?.total ? <span class="dim small">{count(summary.total)} in all; those that need a look are listed</span> : <span class="dim">{list.length}</span>}
        {summary?.health && <span class="push row small">{Object.entries(summary.health).map(([h, n]) => <Status key={h} word={h}>{h} {count(n)}</Status>)}</span>}
      </header>
      {list.length === 0 ? <p class="in dim">{summary?.total ? "All of them are as desired." : "The agent has not reported on any object yet."}</p> : (
        <ul class="objects">
          {shown.map((m) => <One key={m.resourceMeta.ordinal} of={m} />)}
          {shown.length < ordered.length && <li class="object"><button class="btn" onClick={() => setAll(true)}>Show {count(ordered.length - shown.length)} more</button></li>}
        </ul>
      )}
    </section>
  );
}
