// Light or dark: the system's, unless somebody chose for this browser.

import { signal } from "@preact/signals";

export type Scheme = "" | "light" | "dark";

const KEY = "drover-scheme";

const kept = (): Scheme => {
  try {
    const s = localStorage.getItem(KEY);
    return s === "light" || s === "dark" ? s : "";
  } catch {
    return "";
  }
};

export const scheme = signal<Scheme>(kept());

const dark = matchMedia("(prefers-color-scheme: dark)");
export const isDark = (): boolean => (scheme.value ? scheme.value === "dark" : dark.matches);

scheme.subscribe((s) => {
  if (s) document.documentElement.dataset.scheme = s;
  else delete document.documentElement.dataset.scheme;
  try {
    if (s) localStorage.setItem(KEY, s);
    else localStorage.removeItem(KEY);
  } catch {
    // kept for this tab only
  }
});

const small = matchMedia("(max-width: 900px)");
/** narrow is whether the navigation is behind a button. */
export const narrow = signal(small.matches);
small.addEventListener("change", () => { narrow.value = small.matches; });
