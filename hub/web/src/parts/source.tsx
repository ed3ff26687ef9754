// Text with numbered lines that can be linked to.

import { useEffect } from "preact/hooks";
import { address } from "../router";
import { Copy } from "./code";

export function Source({ text, title }: { text: string; title: string }) {
  const lines = text.split("\n");
  const marked = /^L(\d+)$/.exec(address.value.hash)?.[1];
  useEffect(() => { if (marked) document.getElementById("L" + marked)?.scrollIntoView({ block: "center" }); }, [marked, text]);
  return (
    <section class="card">
      <header><h2>{title}</h2><span class="dim">{lines.length} lines</span><span class="actions"><Copy text={text} label="Copy all" tiny={false} /></span></header>
      <div class="source" tabIndex={0} role="region" aria-label={title}>
        <ol>
          {lines.map((l, i) => (
            <li key={i} id={"L" + (i + 1)} class={marked === String(i + 1) ? "marked" : undefined}>
              <a href={location.pathname + location.search + "#L" + (i + 1)} aria-label={`Line ${i + 1}`} tabIndex={-1}>{i + 1}</a><span>{l}</span>
            </li>
          ))}
        </ol>
      </div>
    </section>
  );
}
