// Differences: fields, and objects with their fields, unified or side by side.

import { useId } from "preact/hooks";
import type { ObjectDiff } from "../api";
import { plainJSON, plural } from "../format";
import { query, setQuery } from "../router";
import type { Hue } from "../words";
import { named } from "./objects";
import { Status } from "./status";

export type Change = { path: string; before?: string | undefined; after?: string | undefined };

function Lines({ changes, split }: { changes: Change[]; split: boolean }) {
  if (split) {
    return (
      <div class="difflines two">
        {changes.map((c) => (
          <>
            <span class="path">{c.path}</span>
            <span class={c.before === undefined ? "faint" : "del"}>{c.before === undefined ? "absent" : plainJSON(c.before)}</span>
            <span class={c.after === undefined ? "faint" : "add"}>{c.after === undefined ? "absent" : plainJSON(c.after)}</span>
          </>
        ))}
      </div>
    );
  }
  return (
    <div class="difflines">
      {changes.map((c) => (
        <>
          {c.before !== undefined && <><span class="sign del">−</span><span class="del">{c.path}: {plainJSON(c.before)}</span></>}
          {c.after !== undefined && <><span class="sign add">+</span><span class="add">{c.path}: {plainJSON(c.after)}</span></>}
          {c.before === undefined && c.after === undefined && <><span class="sign"> </span><span>{c.path}</span></>}
        </>
      ))}
    </div>
  );
}

export function FieldDiff({ title, changes }: { title: string; changes: Change[] }) {
  const id = useId();
  return <div class="diff" role="group" aria-labelledby={id}><div class="diffhead" id={id}>{title}<span class="dim">{plural(changes.length, "field")}</span></div><Lines changes={changes} split={false} /></div>;
}

const ACTIONS: Record<string, [Hue, string]> = {
  create: ["ok", "created"], change: ["busy", "changed"], delete: ["bad", "removed"], refuse: ["warn", "refused"], none: ["none", "the same"],
};

/** ObjectDiffs lists objects that change first; each opens to its fields. */
export function ObjectDiffs({ list }: { list: ObjectDiff[] }) {
  const split = query("diff") === "split";
  const rank = (o: ObjectDiff) => ({ bad: 0, warn: 1, busy: 2, ok: 3, none: 4 }[ACTIONS[o.action]?.[0] ?? "none"]);
  const ordered = list.slice().sort((a, b) => rank(a) - rank(b));
  return (
    <div class="stack">
      <div class="row">
        <span class="dim">{plural(list.length, "object")}</span>
        <div class="seg push" role="group" aria-label="How differences are shown">
          <button type="button" aria-pressed={!split} onClick={() => setQuery({ diff: "" })}>Unified</button>
          <button type="button" aria-pressed={split} onClick={() => setQuery({ diff: "split" })}>Split</button>
        </div>
      </div>
      {ordered.map((o, i) => {
        const [hue, word] = ACTIONS[o.action] ?? ["none", o.action];
        const fields = (o.fields ?? []).map((f) => ({ path: f.path, before: f.live || undefined, after: f.desired || undefined }));
        const more = (o.total ?? 0) - fields.length;
        return (
          <details class="diff" key={i} open={fields.length > 0 && ordered.length <= 8}>
            <summary><Status word={word} hue={hue} /><span class="break">{named(o)}</span>{o.message && <span class="dim break">{o.message}</span>}<span class="push dim small">{o.total ? plural(o.total, "field") : ""}</span></summary>
            {fields.length > 0 && <Lines changes={fields} split={split} />}
            {more > 0 && <p class="in dim small">and {plural(more, "more field")}</p>}
          </details>
        );
      })}
    </div>
  );
}
