// The lamp says whether what is shown is true now, and since when it may not be.

import { clockTime, duration } from "../format";
import { link, live } from "../live";
import { clock } from "./status";

export function Lamp({ short }: { short?: boolean }) {
  const l = link.value;
  if (l.state === "live") return <div class="lamp live" title="Changes show as they happen"><span class="dot" />Live</div>;
  if (l.state === "connecting") return <div class="lamp wait"><span class="dot" />Connecting</div>;
  const age = duration(Math.max(0, clock.value - l.since / 1000));
  return <div class="lamp stale" title={l.why}><span class="dot" /><span>Stale since {short ? age : <>{clockTime(l.since / 1000)}, {age}<br />Reconnecting</>}</span></div>;
}

/** StaleBar stands above the page while the hub cannot be reached. */
export function StaleBar() {
  const l = link.value;
  if (l.state !== "stale") return null;
  const now = clock.value;
  const age = now - l.since / 1000;
  if (age < 5) return null;
  const next = Math.ceil(l.retry / 1000 - now);
  return (
    <div class="offline fade">
      <span><b class="strong">What you see is {duration(age)} old.</b> {/reached/.test(l.why) ? l.why : `The hub cannot be reached: ${l.why.replace(/\.$/, "")}.`} {next > 0 ? `Trying again in ${next}s.` : "Trying now."}</span>
      <button class="btn tiny" onClick={() => live.now()}>Try now</button>
    </div>
  );
}

/** LinkNews tells screen readers, and only when it changes. */
export function LinkNews() {
  const state = link.value.state;
  return <span class="sr" role="status">{state === "stale" ? "Connection to the hub lost. What is shown is stale." : state === "live" ? "Live." : ""}</span>;
}
