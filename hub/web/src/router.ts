// The address is the state: every view, filter and open dialog is in it, so that it
// can be pasted, and so that Back does what people expect.

import { computed, signal } from "@preact/signals";

export type Address = { path: string; query: URLSearchParams; hash: string };

const read = (): Address => ({
  path: decodeURI(location.pathname).replace(/(.)\/+$/, "$1"),
  query: new URLSearchParams(location.search),
  hash: decodeURIComponent(location.hash.slice(1)),
});

export const address = signal<Address>(read());
export const path = computed(() => address.value.path);

/** go opens an address. Replacing leaves no step in the history, for filters. */
export function go(to: string, how: { replace?: boolean } = {}): void {
  if (to === location.pathname + location.search + location.hash) return;
  const samePage = to.split(/[?#]/)[0] === location.pathname;
  if (how.replace) history.replaceState(null, "", to);
  else history.pushState(null, "", to);
  address.value = read();
  if (!samePage && !how.replace) {
    scrollTo(0, 0);
    focusMain();
  }
}

/** focusMain puts the keyboard where a new page begins. */
export function focusMain(): void {
  requestAnimationFrame(() => {
    if (!document.querySelector("dialog[open]")) document.getElementById("main")?.focus({ preventScroll: true });
  });
}

/** query reads one parameter of the address; empty when it is absent. */
export const query = (name: string): string => address.value.query.get(name) ?? "";

/** setQuery changes parameters; an empty value takes one away. */
export function setQuery(change: Record<string, string>, how: { replace?: boolean } = { replace: true }): void {
  const next = new URLSearchParams(location.search);
  for (const [name, value] of Object.entries(change)) {
    if (value === "") next.delete(name);
    else next.set(name, value);
  }
  const text = next.toString();
  go(location.pathname + (text ? "?" + text : "") + location.hash, how);
}

/** match compares a path with a pattern such as "/clusters/:name". */
export function match(pattern: string, at: string): Record<string, string> | undefined {
  const want = pattern.split("/"), have = at.split("/");
  if (want.length !== have.length) return undefined;
  const params: Record<string, string> = {};
  for (let i = 0; i < want.length; i++) {
    const w = want[i]!, h = have[i]!;
    if (w.startsWith(":")) params[w.slice(1)] = h;
    else if (w !== h) return undefined;
  }
  return params;
}

/** to makes a path of parts that may hold anything. */
export const to = (...parts: string[]): string => "/" + parts.map(encodeURIComponent).join("/");

/** startRouter takes over links of this origin, and Back and Forward. */
export function startRouter(): void {
  addEventListener("popstate", () => { address.value = read(); });
  document.addEventListener("click", (e) => {
    if (e.defaultPrevented || e.button !== 0 || e.metaKey || e.ctrlKey || e.shiftKey || e.altKey) return;
    const a = (e.target as Element | null)?.closest?.("a[href]") as HTMLAnchorElement | null;
    if (!a || a.origin !== location.origin || a.target || a.hasAttribute("download") || a.dataset.plain !== undefined) return;
    if (a.getAttribute("href")!.startsWith("#")) {
      if (a.classList.contains("skip")) {
        e.preventDefault();
        document.getElementById("main")?.focus();
      }
      return;
    }
    e.preventDefault();
    go(a.pathname + a.search + a.hash);
  });
}
