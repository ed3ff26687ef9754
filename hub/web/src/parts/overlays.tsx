// The palette and the list of keys, while they are open.

import { signal } from "@preact/signals";
import { lazy } from "./lazy";

const open = signal<"" | "palette" | "keys">("");
export const openPalette = (): void => { open.value = "palette"; };
export const openKeys = (): void => { open.value = "keys"; };

const Palette = lazy<{ close: () => void }>(() => import("./palette").then((m) => m.Palette), { quiet: true });
const Keys = lazy<{ close: () => void }>(() => import("./palette").then((m) => m.Keys), { quiet: true });

const close = (): void => { open.value = ""; };

export function Overlays() {
  if (open.value === "palette") return <Palette close={close} />;
  if (open.value === "keys") return <Keys close={close} />;
  return null;
}
