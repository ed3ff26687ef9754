// What stands around every page: places to go, who is here, the lamp.

import type { ComponentChildren } from "preact";
import { useEffect, useRef } from "preact/hooks";
import { mac, useKeys } from "../keys";
import { go, path } from "../router";
import { NAV, placeOf } from "../routes";
import { tables, useTable } from "../rows";
import { narrow, scheme, type Scheme } from "../scheme";
import { logout, who } from "../session";
import { Announcer } from "./announce";
import { Icon, Mark } from "./icon";
import { Lamp, LinkNews, StaleBar } from "./lamp";
import { openKeys, openPalette } from "./overlays";
import { Toasts } from "./toast";

export const pending = (): number => tables.requests.table.list().filter((r) => r.phase === "Pending").length;

export function Frame({ children }: { children: ComponentChildren }) {
  useTable("clusters");
  useTable("requests");
  useKeys([
    ...NAV.map((p) => ({ keys: "g " + p.go, label: p.label, group: "Go to", run: () => go(p.path) })),
    { keys: "?", label: "This list", group: "Everywhere", run: openKeys },
  ]);
  const side = useRef<HTMLDivElement>(null);
  const Side = narrow.value ? "div" : "header"; // one banner a page
  const at = path.value;
  useEffect(() => {
    if (side.current?.matches(":popover-open")) side.current.hidePopover();
  }, [at]);
  return (
    <>
      <a class="skip" href="#main">Skip to the page</a>
      <div class="frame">
        {narrow.value && <header class="topbar">
          <button class="btn plain icon" aria-label="Places" popovertarget="side"><Icon name="menu" /></button>
          <a class="brand" href="/"><Mark />Drover</a>
          <Lamp short />
          <button class="btn plain icon" aria-label="Search and commands" onClick={openPalette}><Icon name="find" /></button>
        </header>}
        <Side class="side" id="side" ref={side} popover={narrow.value ? "auto" : undefined}>
          <a class="brand" href="/"><Mark />Drover</a>
          <button class="find" onClick={openPalette} aria-keyshortcuts="Control+K"><Icon name="find" size={14} />Search<kbd>{mac ? "⌘K" : "Ctrl K"}</kbd></button>
          <Places at={at} />
          <div class="foot">
            {!narrow.value && <Lamp />}
            <Me />
          </div>
        </Side>
        <main id="main" tabIndex={-1}>
          <div class="page"><StaleBar />{children}</div>
        </main>
      </div>
      <Toasts />
      <LinkNews />
      <Announcer />
    </>
  );
}

function Places({ at }: { at: string }) {
  const here = placeOf(at);
  const groups = [...new Set(NAV.map((p) => p.group))];
  return (
    <nav class="nav" aria-label="Places">
      {groups.map((g) => (
        <div key={g}>
          <h2>{g}</h2>
          {NAV.filter((p) => p.group === g).map((p) => {
            const n = p.badge === "pending" ? pending() : 0;
            return (
              <a key={p.path} href={p.path} aria-current={here === p ? "page" : undefined}>
                <Icon name={p.icon} />{p.label}
                {n > 0 && <span class="badge warn">{n}<span class="sr"> wait for you</span></span>}
              </a>
            );
          })}
        </div>
      ))}
    </nav>
  );
}

const SCHEMES: { value: Scheme; label: string; icon: string }[] = [
  { value: "", label: "Colours of the system", icon: "hub" },
  { value: "light", label: "Light", icon: "sun" },
  { value: "dark", label: "Dark", icon: "moon" },
];

function Me() {
  const menu = useRef<HTMLDivElement>(null);
  const button = useRef<HTMLButtonElement>(null);
  const w = who.value;
  if (!w) return null;
  const place = () => {
    const b = button.current!.getBoundingClientRect();
    menu.current!.style.setProperty("left", b.left + "px");
    menu.current!.style.setProperty("bottom", innerHeight - b.top + 4 + "px");
  };
  const close = (f: () => void) => () => {
    menu.current!.hidePopover();
    f();
  };
  return (
    <>
      <button class="me" ref={button} popovertarget="me" onClick={place}><Icon name="person" /><span class="clip">{w.user}</span></button>
      <div class="popmenu" id="me" popover="auto" ref={menu}>
        <div class="who"><div class="strong break">{w.user}</div><div class="small dim">{w.session ? "logged in to this browser" : "by credential"}</div></div>
        <a href="/access" onClick={close(() => {})}><Icon name="key" />What may I do?</a>
        <button onClick={close(openKeys)}><Icon name="keyboard" />Keys<span class="push"><kbd>?</kbd></span></button>
        {SCHEMES.map((s) => (
          <button key={s.value} onClick={close(() => { scheme.value = s.value; })} aria-pressed={scheme.value === s.value}>
            <Icon name={s.icon} />{s.label}{scheme.value === s.value && <span class="push"><Icon name="check" size={14} /></span>}
          </button>
        ))}
        {w.session && <button onClick={close(() => void logout())}><Icon name="out" />Log out</button>}
      </div>
    </>
  );
}
