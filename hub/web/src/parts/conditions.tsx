// Conditions with their age and what they say.

import type { Condition } from "../api";
import type { Hue } from "../words";
import { Age, Status } from "./status";

/** Of these, true is what somebody must look at. */
const BAD = /^(Degraded|PruneBlocked|RemovalHeld|Failed|Conflict)/;

/** These wait for a person. */
const WAITS = /^(PruneBlocked|RemovalHeld)/;

export function hueOfCondition(c: Condition): Hue {
  if (c.status === "Unknown") return "none";
  if (/^(Progressing|Deleting)/.test(c.type)) return c.status === "True" ? "busy" : "none";
  if (BAD.test(c.type)) return c.status !== "True" ? "ok" : WAITS.test(c.type) ? "warn" : "bad";
  return c.status === "True" ? "ok" : "bad";
}

export function Conditions({ list, generation }: { list: Condition[] | undefined; generation?: number | undefined }) {
  if (!list?.length) return <p class="dim in">Nothing is known yet.</p>;
  return (
    <ul class="conditions">
      {list.map((c) => {
        const old = generation !== undefined && c.observedGeneration && c.observedGeneration < generation;
        return (
          <li key={c.type}>
            <Status word={c.status} hue={hueOfCondition(c)}><span class="break">{c.type}</span> {c.status !== "True" && <span class="faint">{c.status}</span>}</Status>
            <span class="text dim break">{c.message || c.reason}{old ? <span class="pill" title={`Of generation ${c.observedGeneration}; the present one is ${generation}`}>of an older generation</span> : ""}</span>
            <span class="faint"><Age at={c.lastTransitionTime} /></span>
          </li>
        );
      })}
    </ul>
  );
}
