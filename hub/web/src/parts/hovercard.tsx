// The card beside the cell under the pointer, or with the focus.

import "../common";
import { useEffect, useRef, useState } from "preact/hooks";
import { tables } from "../rows";
import { loadSamples, type Samples } from "../samples";
import { hover, hovered } from "./hover";
import { Spark } from "./meter";
import { Age, Status } from "./status";

export function HoverCard() {
  const at = hovered.value;
  const ref = useRef<HTMLDivElement>(null);
  const [samples, setSamples] = useState<Samples | undefined>();
  useEffect(() => {
    setSamples(undefined);
    if (!at) return;
    const aborter = new AbortController();
    const wait = setTimeout(() => loadSamples(at.name, aborter.signal).then(setSamples, () => {}), 180);
    return () => {
      clearTimeout(wait);
      aborter.abort();
    };
  }, [at?.name]);
  useEffect(() => () => hover("", null), []);
  useEffect(() => {
    const card = ref.current;
    if (!card || !at) return;
    const cell = at.cell.getBoundingClientRect(), size = card.getBoundingClientRect();
    const left = Math.max(8, Math.min(cell.left, innerWidth - size.width - 8));
    const below = cell.bottom + 8 + size.height < innerHeight;
    card.style.setProperty("--x", left + "px");
    card.style.setProperty("--y", (below ? cell.bottom + 8 : Math.max(8, cell.top - size.height - 8)) + "px");
  });
  const row = at ? tables.clusters.table.row(at.name) : undefined;
  if (!at || !row) return null;
  return (
    <div class="hovercard" ref={ref} aria-hidden="true">
      <div class="row"><b class="strong clip">{row.name}</b><span class="push"><Status word={row.phase} /></span></div>
      {row.reason && <p class="why">{row.reason}</p>}
      <dl class="facts">
        {row.since > 0 && <><dt>{row.phase === "Offline" ? "last seen" : "since"}</dt><dd><Age at={row.since} suffix=" ago" /></dd></>}
        <dt>version</dt><dd>{[row.kubernetes && "Kubernetes " + row.kubernetes, row.agent && "agent " + row.agent].filter(Boolean).join(", ") || "–"}</dd>
        {row.nodes > 0 && <><dt>nodes</dt><dd>{row.nodesReady} of {row.nodes} ready</dd></>}
        {row.works !== null && row.works > 0 && <><dt>works</dt><dd>{row.works}{row.problems ? `, ${row.problems} not well` : ""}</dd></>}
      </dl>
      {(row.cpu !== null || row.memory !== null) && (
        <div class="trend">
          <div>CPU {row.cpu === null ? "" : row.cpu + "%"}{samples && <Spark values={samples.cpu} max={100} label="CPU of the last hour" />}</div>
          <div>Memory {row.memory === null ? "" : row.memory + "%"}{samples && <Spark values={samples.memory} max={100} label="Memory of the last hour" />}</div>
        </div>
      )}
    </div>
  );
}
