// Ctrl-K: every page, cluster, addon and action by a few letters of its name. And the
// list of keys.

import "../common";
import { useEffect, useId, useMemo, useRef, useState } from "preact/hooks";
import { natural } from "../format";
import { shortcuts } from "../keys";
import { go, to } from "../router";
import { NAV } from "../routes";
import { tables, useTable } from "../rows";
import { scheme } from "../scheme";
import { logout } from "../session";
import { Dialog } from "./dialog";
import { Icon } from "./icon";
import { openKeys } from "./overlays";
import { Glyph } from "./status";
import { hueOf, type Hue } from "../words";

type Item = { group: string; label: string; note?: string; icon?: string; hue?: Hue; run: () => void };

/** score says how well text fits what was typed; 0 for not at all. */
export function score(text: string, typed: string): number {
  const t = text.toLowerCase(), q = typed.toLowerCase().trim();
  if (q === "") return 1;
  if (t === q) return 100;
  if (t.startsWith(q)) return 80;
  const at = t.indexOf(q);
  if (at > 0) return /[\s\-_./]/.test(t[at - 1]!) ? 70 : 50;
  let i = 0, gaps = 0, last = -1;
  for (const c of q) {
    i = t.indexOf(c, i);
    if (i < 0) return 0;
    if (last >= 0) gaps += i - last - 1;
    last = i++;
  }
  return Math.max(1, 30 - gaps);
}

function things(): Item[] {
  const items: Item[] = NAV.map((p) => ({ group: "Pages", label: p.label, icon: p.icon, note: "g " + p.go, run: () => go(p.path) }));
  for (const r of tables.requests.table.list()) {
    if (r.phase === "Pending") items.push({ group: "Waiting for you", label: `Approve ${r.cluster}`, icon: "door", note: r.name, run: () => go("/requests?approve=" + encodeURIComponent(r.name)) });
  }
  for (const c of tables.clusters.table.list()) items.push({ group: "Clusters", label: c.name, hue: hueOf(c.phase), note: c.phase, run: () => go(to("clusters", c.name)) });
  for (const a of tables.addons.table.list()) items.push({ group: "Addons", label: a.name, icon: "addon", note: a.title, run: () => go(to("addons", a.name)) });
  items.push(
    { group: "Actions", label: "Create a join token", icon: "plus", run: () => go("/tokens?new=1") },
    { group: "Actions", label: "Show what needs somebody", icon: "alert", run: () => go("/?q=problems:>0&view=table") },
    { group: "Actions", label: "Dark colours", icon: "moon", run: () => { scheme.value = "dark"; } },
    { group: "Actions", label: "Light colours", icon: "sun", run: () => { scheme.value = "light"; } },
    { group: "Actions", label: "Colours of the system", icon: "hub", run: () => { scheme.value = ""; } },
    { group: "Actions", label: "List of keys", icon: "keyboard", note: "?", run: openKeys },
    { group: "Actions", label: "Log out", icon: "out", run: () => void logout() },
  );
  return items;
}

const MOST = 8;

/** choose keeps the best few of each group, the best group first. */
export function choose(items: Item[], typed: string): Item[] {
  const groups = new Map<string, { best: number; items: [number, Item][] }>();
  for (const item of items) {
    const s = score(item.label, typed);
    if (s === 0 || (typed === "" && item.group === "Clusters")) continue;
    const g = groups.get(item.group) ?? { best: 0, items: [] };
    g.best = Math.max(g.best, s);
    g.items.push([s, item]);
    groups.set(item.group, g);
  }
  return [...groups.values()].sort((a, b) => b.best - a.best)
    .flatMap((g) => g.items.sort(([a, x], [b, y]) => b - a || (typed ? natural(x.label, y.label) : 0)).slice(0, MOST).map(([, i]) => i));
}

export function Palette({ close }: { close: () => void }) {
  useTable("addons");
  const [typed, setTyped] = useState("");
  const [at, setAt] = useState(0);
  const id = useId();
  const list = useRef<HTMLDivElement>(null);
  const ticks = tables.clusters.table.shape.value + tables.requests.table.tick.value + tables.addons.table.tick.value;
  const found = useMemo(() => choose(things(), typed), [typed, ticks]);
  useEffect(() => { list.current?.querySelector('[aria-selected="true"]')?.scrollIntoView({ block: "nearest" }); }, [at, found]);
  const pick = (i: Item) => {
    close();
    setTimeout(i.run); // after the focus went back
  };
  const keys = (e: KeyboardEvent) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[e.key];
    if (step) setAt((at + step + found.length) % Math.max(1, found.length));
    else if (e.key === "Enter" && found[at]) pick(found[at]);
    else return;
    e.preventDefault();
  };
  let group = "";
  const groups: { name: string; items: { item: Item; i: number }[] }[] = [];
  found.forEach((item, i) => {
    if (item.group !== group) groups.push({ name: (group = item.group), items: [] });
    groups.at(-1)!.items.push({ item, i });
  });
  return (
    <Dialog title={<span class="sr">Search and commands</span>} onClose={close} kind="palette">
      <div class="ask">
        <Icon name="find" />
        <input data-first role="combobox" aria-expanded="true" aria-controls={id} aria-activedescendant={found[at] ? id + at : undefined} aria-label="Search and commands"
          placeholder="Go to a page, a cluster, an addon; or do something" value={typed} autocomplete="off" spellcheck={false}
          onInput={(e) => { setTyped(e.currentTarget.value); setAt(0); }} onKeyDown={keys} />
        <kbd>Esc</kbd>
      </div>
      <div id={id} role="listbox" aria-label="Results" ref={list}>
        {found.length === 0 && <div class="none" role="option" aria-selected="false" aria-disabled="true">Nothing is called that.</div>}
        {groups.map((g) => (
          <div key={g.name} role="group" aria-label={g.name}>
            <span aria-hidden="true">{g.name}</span>
            {g.items.map(({ item, i }) => (
              <div key={i} id={id + i} role="option" aria-selected={i === at} onClick={() => pick(item)} onMouseMove={() => setAt(i)}>
                {item.hue ? <span class={"status " + item.hue}><Glyph hue={item.hue} /></span> : <Icon name={item.icon ?? "right"} />}
                <span class="clip">{item.label}</span>{item.note && <span class="push clip">{item.note}</span>}
              </div>
            ))}
          </div>
        ))}
      </div>
    </Dialog>
  );
}

export function Keys({ close }: { close: () => void }) {
  const all = [{ keys: "Ctrl+K", label: "Search and commands", group: "Everywhere", run: close }, ...shortcuts.value];
  const groups = [...new Set(all.map((s) => s.group))];
  return (
    <Dialog title="Keys" onClose={close} kind="wide">
      <div class="body keys">
        {groups.map((g) => (
          <section key={g}>
            <h3>{g}</h3>
            <ul>
              {all.filter((s, i) => s.group === g && all.findIndex((x) => x.keys === s.keys) === i).map((s) => (
                <li key={s.keys}><span>{s.label}</span><span>{s.keys.split(/ |\+/).map((k) => <kbd key={k}>{k}</kbd>)}</span></li>
              ))}
            </ul>
          </section>
        ))}
      </div>
    </Dialog>
  );
}
