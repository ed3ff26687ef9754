// Shortcuts. A page or part registers its own while it is shown; "?" lists them.

import { signal } from "@preact/signals";
import { useEffect } from "preact/hooks";

export type Shortcut = { keys: string; label: string; group: string; run: () => void };

export const shortcuts = signal<Shortcut[]>([]);

/** useKeys registers shortcuts such as "g f", "/" or "j". */
export function useKeys(list: Shortcut[], deps: unknown[] = []): void {
  useEffect(() => {
    shortcuts.value = [...shortcuts.value, ...list];
    return () => { shortcuts.value = shortcuts.value.filter((s) => !list.includes(s)); };
  }, deps);
}

let pending = "", timer = 0;

const typing = (e: KeyboardEvent): boolean => {
  const t = e.target as HTMLElement;
  return t.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(t.tagName);
};

export const mac = /Mac|iPhone|iPad/.test(navigator.userAgent);

/** startKeys listens; palette is what Ctrl-K opens. */
export function startKeys(palette: () => void): void {
  addEventListener("keydown", (e) => {
    if ((e.ctrlKey || e.metaKey) && !e.altKey && !e.shiftKey && e.key.toLowerCase() === "k") {
      e.preventDefault();
      palette();
      return;
    }
    if (e.ctrlKey || e.metaKey || e.altKey || e.defaultPrevented || typing(e) || document.querySelector("dialog[open]")) return;
    const combo = pending ? pending + " " + e.key : e.key;
    // The newest registration wins: a part of a page over the page.
    const hit = shortcuts.value.findLast((s) => s.keys === combo);
    clearTimeout(timer);
    pending = "";
    if (hit) {
      e.preventDefault();
      hit.run();
    } else if (shortcuts.value.some((s) => s.keys.startsWith(combo + " "))) {
      pending = combo;
      timer = window.setTimeout(() => { pending = ""; }, 1200);
    }
  });
}
