// Buttons. One that cannot be used stays in reach of the keyboard and says why; one
// that works on something shows it until that is done.

import type { ComponentChildren } from "preact";
import { useId, useState } from "preact/hooks";
import { say } from "../client";
import { toast } from "./toast";

type Props = {
  children: ComponentChildren; why?: string | undefined; kind?: string; label?: string; type?: "button" | "submit";
  run?: () => unknown; busy?: boolean;
};

export function Action({ children, why, kind = "", label, type = "button", run, busy: outer }: Props) {
  const [inner, setBusy] = useState(false);
  const id = useId();
  const busy = inner || outer;
  const off = why !== undefined || busy;
  const click = async (e: Event) => {
    if (off) {
      e.preventDefault();
      return;
    }
    const going = run?.();
    if (!(going instanceof Promise)) return;
    setBusy(true);
    try {
      await going;
    } catch (err) {
      toast({ text: say(err), hue: "bad" });
    } finally {
      setBusy(false);
    }
  };
  const button = (
    <button type={type} class={"btn " + kind} onClick={click} aria-disabled={off ? "true" : undefined} aria-label={label} title={why ? undefined : label}
      aria-describedby={why ? id : undefined} aria-busy={busy ? "true" : undefined}>
      {busy && <span class="spin" />}{children}
    </button>
  );
  if (!why) return button;
  return <span class="tipped">{button}<span class="tip" role="tooltip" id={id}>{why}</span></span>;
}
