// How states look: a hue, and a shape that says the same without colour. The words
// and their tones are the hub's, as the command line has them.

import { ACTIONS, PHASES, type Action, type Tone } from "./phases";

export type Hue = Tone;

/** Words that are not phases: health and drift of single objects, evidence, conditions. */
const MORE: Record<string, Hue> = {
  Current: "ok", InProgress: "busy", Terminating: "busy", NotFound: "bad", Unknown: "none",
  Present: "warn", Corrected: "busy", Fighting: "bad", Missing: "bad",
  ok: "ok", waiting: "warn", problem: "bad", info: "none",
  True: "ok", False: "bad",
};

const HUES = new Map<string, Hue>(Object.entries(MORE));
for (const list of Object.values(PHASES)) for (const p of list) HUES.set(p.name, p.tone);

export const hueOf = (word: string): Hue => HUES.get(word) ?? "none";

/** meaning is what a phase of a kind of thing says. */
export const meaning = (kind: string, phase: string): string => PHASES[kind]?.find((p) => p.name === phase)?.meaning ?? "";

/** order is the place of a phase: what needs somebody comes first. */
export function order(kind: string, phase: string): number {
  const i = PHASES[kind]?.findIndex((p) => p.name === phase) ?? -1;
  return i < 0 ? 99 : i;
}

/** tokenPhase is that of a join token at a time: the hub says which time it ends at, and tells nobody when it does. */
export const tokenPhase = (t: { phase: string; expires: number }, now: number): string => (t.phase === "Open" && t.expires > 0 && t.expires <= now ? "Expired" : t.phase);

/** action is the button's word and the consequence of something that people do. */
export function action(id: string, name: string): Action & { consequence: string } {
  const a = ACTIONS.find((x) => x.id === id) ?? { id, verb: id };
  return { ...a, consequence: (a.consequence ?? "").replaceAll("{name}", name) };
}

/** MARKS stand in cells too small for a word. */
export const MARKS: Record<Hue, string> = { ok: "", busy: "…", warn: "!", bad: "×", none: "–" };
