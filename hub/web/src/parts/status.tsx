// States, times and digests, as every page shows them.

import { signal } from "@preact/signals";
import type { ComponentChildren } from "preact";
import { duration, exact, seconds, short } from "../format";
import { live } from "../live";
import { hueOf, type Hue } from "../words";

/** Each hue has a shape of its own: nobody needs to see colours. */
export function Glyph({ hue }: { hue: Hue }) {
  return (
    <svg class="glyph" viewBox="0 0 12 12" fill="none" stroke="currentColor" stroke-width="1.6" aria-hidden="true">
      {hue === "ok" && <><circle cx="6" cy="6" r="6" fill="currentColor" stroke="none" /><path d="M3.4 6.2 5.3 8l3.4-3.9" stroke="var(--surface)" /></>}
      {hue === "busy" && <><circle cx="6" cy="6" r="4.9" /><path d="M6 3.2a2.8 2.8 0 0 1 0 5.6z" fill="currentColor" stroke="none" /></>}
      {hue === "warn" && <><path d="M6 .4 12 11.4H0z" fill="currentColor" stroke="none" /><path d="M6 4.5v3M6 8.9v1.2" stroke="var(--surface)" stroke-width="1.3" /></>}
      {hue === "bad" && <><path d="M3.5 0h5L12 3.5v5L8.5 12h-5L0 8.5v-5z" fill="currentColor" stroke="none" /><path d="m4 4 4 4M8 4 4 8" stroke="var(--surface)" /></>}
      {hue === "none" && <circle cx="6" cy="6" r="4.9" stroke-dasharray="2.2 1.7" />}
    </svg>
  );
}

export function Status({ word, hue, children }: { word: string; hue?: Hue; children?: ComponentChildren }) {
  const h = hue ?? hueOf(word);
  return <span class={"status " + h}><Glyph hue={h} />{children ?? word}</span>;
}

export const clock = signal(Math.floor(Date.now() / 1000));
setInterval(() => {
  if (!document.hidden) clock.value = Math.floor(Date.now() / 1000);
}, 1000);

/** hubTime is the time at the hub, in seconds; who reads it is drawn again every second. */
export const hubTime = (): number => clock.value + live.skew;

/** Age is how long ago something was; hovering shows when exactly. */
export function Age({ at, suffix = "", none = "–" }: { at: unknown; suffix?: string; none?: string }) {
  const t = seconds(at);
  if (!t) return <span class="faint">{none}</span>;
  const now = hubTime();
  return (
    <time class="nowrap" dateTime={new Date(t * 1000).toISOString()} title={exact(t)}>
      {t > now + 2 ? "in " + duration(t - now) : duration(Math.max(0, now - t)) + suffix}
    </time>
  );
}

/** Digest is short, and whole on hover. */
export function Digest({ of }: { of: string | undefined }) {
  return of ? <code title={of}>{short(of)}</code> : <span class="faint">none</span>;
}
