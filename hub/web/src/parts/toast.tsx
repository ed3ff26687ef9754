// What was done, for some seconds, with the way back where there is one.

import { signal } from "@preact/signals";
import { say } from "../client";
import { useKeys } from "../keys";
import type { Hue } from "../words";
import { Icon } from "./icon";
import { Glyph } from "./status";

export type Toast = { text: string; hue?: Hue; undo?: () => Promise<unknown> };
type Shown = Toast & { id: number; timer: number };

const shown = signal<Shown[]>([]);
let last = 0;

const close = (id: number): void => { shown.value = shown.value.filter((t) => t.id !== id); };

export function toast(t: Toast): void {
  const id = ++last;
  const life = t.undo ? 12_000 : t.hue === "bad" ? 15_000 : 5_000;
  shown.value = [...shown.value.slice(-3), { ...t, id, timer: window.setTimeout(() => close(id), life) }];
}

async function undo(t: Shown): Promise<void> {
  clearTimeout(t.timer);
  close(t.id);
  try {
    await t.undo!();
    toast({ text: "Undone.", hue: "ok" });
  } catch (e) {
    toast({ text: "Not undone: " + say(e), hue: "bad" });
  }
}

export function Toasts() {
  useKeys([{
    keys: "u", label: "Undo the last change", group: "Everywhere",
    run: () => {
      const t = shown.value.findLast((x) => x.undo);
      if (t) void undo(t);
    },
  }]);
  return (
    <div class="toasts" role="status" aria-live="polite">
      {shown.value.map((t) => (
        <div class="toast" key={t.id} onMouseEnter={() => clearTimeout(t.timer)} onFocusIn={() => clearTimeout(t.timer)}
          onMouseLeave={() => { t.timer = window.setTimeout(() => close(t.id), 4000); }}>
          {t.hue && <span class={"status " + t.hue}><Glyph hue={t.hue} /></span>}
          <span class="text">{t.text}</span>
          {t.undo && <button class="btn tiny" onClick={() => void undo(t)}>Undo</button>}
          <button class="btn tiny icon" aria-label="Close the message" onClick={() => close(t.id)}><Icon name="close" size={14} /></button>
        </div>
      ))}
    </div>
  );
}
