// The hub itself: its certificates, who is connected, and what it keeps.

import "../common";
import { useEffect, useState } from "preact/hooks";
import type { Certificate, Hub as Facts, Stream } from "../api";
import { get, Refusal, say } from "../client";
import { bytes, count, seconds } from "../format";
import { Copy } from "../parts/code";
import { Meter } from "../parts/meter";
import { Failed, Forbidden, Loading } from "../parts/states";
import { Age, Status } from "../parts/status";
import { DataTable, type Column } from "../parts/table";
import { Head } from "../parts/title";
import type { Hue } from "../words";

const EVERY = 5000;
const DAY = 86400;

/** ending says whether somebody must look after a certificate. */
export function ending(c: Certificate, now: number): [Hue, string] {
  const left = seconds(c.notAfter) - now;
  if (left <= 0) return ["bad", "expired"];
  if (c.renewed) return ["ok", "renewed by the hub"];
  return left < 30 * DAY ? ["warn", "ends soon, needs a person"] : ["ok", "good"];
}

const CERTIFICATES: Column<Certificate>[] = [
  { key: "name", label: "Certificate", cell: (c) => <span class="strong">{c.name}</span> },
  { key: "state", label: "State", cell: (c) => { const [hue, word] = ending(c, Date.now() / 1000); return <Status word={word} hue={hue} />; } },
  { key: "ends", label: "Ends", cell: (c) => <Age at={c.notAfter} />, num: true },
  { key: "fingerprint", label: "Fingerprint", cell: (c) => (c.fingerprint ? <span class="row nowrap"><code title={c.fingerprint}>{c.fingerprint.slice(0, 16)}…</code><Copy text={c.fingerprint} label="Copy the fingerprint" /></span> : <span class="faint">–</span>) },
];

const STREAMS: Column<Stream>[] = [
  { key: "name", label: "Stream", cell: (s) => <span class="strong mono">{s.name}</span> },
  { key: "messages", label: "Messages", cell: (s) => count(s.messages), num: true },
  { key: "bytes", label: "Size", cell: (s) => bytes(s.bytes), num: true },
  { key: "oldest", label: "Oldest", cell: (s) => <Age at={s.oldest} suffix=" ago" />, num: true },
];

export function Hub(_: { params: Record<string, string> }) {
  const [hub, setHub] = useState<Facts | undefined>();
  const [wrong, setWrong] = useState<Error | undefined>();
  useEffect(() => {
    const aborter = new AbortController();
    const look = () => {
      if (document.hidden) return;
      get<Facts>("/v1/hub", aborter.signal).then((h) => {
        setHub(h);
        setWrong(undefined);
      }, (e: Error) => { if (!aborter.signal.aborted) setWrong(e); });
    };
    look();
    const timer = setInterval(look, EVERY);
    return () => {
      aborter.abort();
      clearInterval(timer);
    };
  }, []);
  return (
    <>
      <Head title="Hub" beside={hub?.version} />
      {wrong instanceof Refusal && wrong.status === 403 ? <Forbidden what="the hub's state" message={wrong.message} />
        : !hub ? wrong ? <Failed what="the hub's state" message={say(wrong)} /> : <Loading what="the hub's state" />
          : (
            <>
              <div class="statline">
                <div><span class="label">Running for</span><span class="big"><Age at={hub.started} /></span><span class="dim small break">{hub.trustDomain}</span></div>
                <div><span class="label">Agents connected</span><span class="big">{count(hub.sessions.live)}</span><span class="dim small">{count(hub.sessions.opened)} opened, {count(hub.sessions.refused)} refused since the start</span></div>
                <div><span class="label">Objects</span><span class="big">{count(hub.objects)}</span><span class="dim small">at revision {count(hub.revision)}</span></div>
                <div><span class="label">Dashboards</span><span class="big">{count(hub.dashboards)}</span><span class="dim small">and {count(hub.watches)} watches</span></div>
                <div><span class="label">Memory</span><span class="big">{bytes(hub.memoryBytes)}</span></div>
              </div>
              <div class="cards two">
                <section class="card"><header><h2>Addresses</h2></header><div class="in stack">
                  <ul class="stack">{hub.urls.map((u, i) => <li key={u} class="row"><code class="break">{u}</code><Copy text={u} label={`Copy ${u}`} />{i === 0 && <span class="pill">preferred</span>}</li>)}</ul>
                </div></section>
                <section class="card"><header><h2>Disk of the data directory</h2></header><div class="in"><Meter label="In use" used={hub.diskBytes} total={hub.diskTotal} text={bytes} /></div></section>
              </div>
              <section class="stack"><h2>Certificates</h2><DataTable label="Certificates" rows={hub.certificates ?? []} columns={CERTIFICATES} keyOf={(c) => c.name} /></section>
              <section class="stack"><h2>Streams</h2><DataTable label="Streams" rows={hub.streams ?? []} columns={STREAMS} keyOf={(s) => s.name} /></section>
            </>
          )}
    </>
  );
}
