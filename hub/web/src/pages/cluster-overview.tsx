// How a cluster is: its facts, what it uses of what it has, and the last hour.

import { useEffect, useState } from "preact/hooks";
import type { ClusterMetrics, ClusterRow, ManagedCluster } from "../api";
import { get, Refusal } from "../client";
import { bytes, cores, count, quantity, rate, seconds } from "../format";
import { Chart, type Line } from "../parts/chart";
import { Conditions } from "../parts/conditions";
import { Labels } from "../parts/labels";
import { Meter } from "../parts/meter";
import { Empty, Loading } from "../parts/states";
import { Age, Status } from "../parts/status";
import { at, metrics } from "../resources";
import { loadSamples, type Column, type Samples } from "../samples";

const EVERY = 10_000;

/** usePoll asks again and again while the tab is looked at. */
function usePoll<T>(ask: (signal: AbortSignal) => Promise<T>, deps: unknown[]): { value: T | undefined; wrong: string } {
  const [value, setValue] = useState<T | undefined>();
  const [wrong, setWrong] = useState("");
  useEffect(() => {
    const aborter = new AbortController();
    const look = () => {
      if (document.hidden) return;
      ask(aborter.signal).then((v) => {
        setValue(v);
        setWrong("");
      }, (e: unknown) => { if (e instanceof Refusal && e.status !== 404) setWrong(e.message); });
    };
    look();
    const timer = setInterval(look, EVERY);
    return () => {
      aborter.abort();
      clearInterval(timer);
    };
  }, deps);
  return { value, wrong };
}

const available = (c: ManagedCluster) => c.status?.conditions?.find((x) => x.type === "ManagedClusterConditionAvailable")?.lastTransitionTime;

function Facts({ cluster, row }: { cluster: ManagedCluster; row: ClusterRow | undefined }) {
  const a = cluster.status?.agent;
  const ends = seconds(a?.certificateExpires);
  const over = ends > 0 && ends < Date.now() / 1000;
  return (
    <div class="statline">
      <div><span class="label">{row?.phase ?? "Phase"} since</span><span class="big"><Age at={row?.since || available(cluster)} /></span></div>
      <div><span class="label">{a?.connectedSince ? "Session since" : "Last seen"}</span><span class="big"><Age at={a?.connectedSince ?? a?.lastSeen} none="never" /></span><span class="dim small">{a?.address ? "from " + a.address : ""}</span></div>
      <div><span class="label">Certificate</span><span class="big">{ends ? over ? <Status word="problem">expired</Status> : <Age at={ends} /> : "–"}</span><span class="dim small">{ends && !over ? "renews itself at two thirds" : ""}</span></div>
      <div><span class="label">Nodes</span><span class="big">{a?.nodes ? `${a.nodesReady ?? 0} of ${a.nodes}` : "–"}</span><span class="dim small">{a?.nodes ? "ready" : "no Kubernetes"}</span></div>
      <div><span class="label">Kubernetes</span><span class="big break">{cluster.status?.version?.kubernetes || "–"}</span></div>
      <div><span class="label">Agent</span><span class="big break">{a?.version || "–"}</span></div>
    </div>
  );
}

function Capacity({ cluster, sample }: { cluster: ManagedCluster; sample: ClusterMetrics | undefined }) {
  const k = sample?.kubernetes, h = sample?.host;
  const total = (name: string) => quantity(k?.allocatable?.[name] ?? cluster.status?.allocatable?.[name]);
  const running = k ? Object.entries(k.podsByPhase ?? {}).reduce((n, [p, c]) => (p === "Succeeded" || p === "Failed" ? n : n + c), 0) : undefined;
  return (
    <section class="card">
      <header><h2>Capacity</h2><span class="dim small push">{k ? (k.usage ? "used against what can be allocated, hatched what pods request" : "what pods request: the cluster has no metrics API that measures use") : h ? "of the machine" : ""}</span></header>
      <div class="in stack">
        {(k || total("cpu")) && (
          <>
            <Meter label="CPU" used={quantity(k?.usage?.cpu)} asked={quantity(k?.requests?.cpu)} total={total("cpu")} text={(v) => cores(v) + " cores"} />
            <Meter label="Memory" used={quantity(k?.usage?.memory)} asked={quantity(k?.requests?.memory)} total={total("memory")} text={bytes} />
            <Meter label="Pods" used={running} total={k?.podsCapacity || total("pods")} text={(v) => count(Math.round(v))} />
          </>
        )}
        {h && (
          <>
            {k && <hr />}
            <Meter label={k ? "CPU of the agent's machine" : "CPU"} used={h.cpu} total={h.cores} text={(v) => cores(v) + " cores"} />
            <Meter label={k ? "Memory of it" : "Memory"} used={h.memoryUsed} total={h.memoryTotal} text={bytes} />
            <Meter label={k ? "Disk of it" : "Disk"} used={h.diskUsed} total={h.diskTotal} text={bytes} />
          </>
        )}
        {!k && !h && !total("cpu") && <p class="dim">No sample came yet. An agent sends its first one right after it connects.</p>}
      </div>
    </section>
  );
}

/** some is a column in which something happened: a line at zero says nothing. */
const some = (c: Column | undefined): Column | undefined => (c?.some((v) => v) ? c : undefined);

function Charts({ samples: s }: { samples: Samples }) {
  const c = s.columns;
  const line = (label: string, values: Column | undefined, more: Partial<Line> = {}): Line[] => (values && values.some((v) => v !== null) ? [{ label, values, colour: "busy", fill: true, ...more }] : []);
  const charts: { title: string; lines: Line[]; text: (v: number) => string; max?: number; binary?: boolean }[] = [
    { title: "CPU", lines: [...line("used", c.kubernetesCPU), ...line("requested", c.requestsCPU, { colour: "none", fill: false, dashed: true })], text: cores },
    { title: "Memory", lines: [...line("used", c.kubernetesMemory), ...line("requested", c.requestsMemory, { colour: "none", fill: false, dashed: true })], text: bytes, binary: true },
    { title: "Pods", lines: [...line("running", c.podsRunning), ...line("pending", some(c.podsPending), { colour: "warn", fill: false }), ...line("failed", some(c.podsFailed), { colour: "bad", fill: false })], text: (v: number) => count(Math.round(v)) },
    { title: "CPU of the machine", lines: line("cores", c.cpu), text: cores },
    { title: "Memory of the machine", lines: line("used", c.memoryUsed), text: bytes, binary: true },
    { title: "Network of the machine", lines: [...line("received", c.networkReceive), ...line("sent", c.networkTransmit, { colour: "warn", fill: false })], text: rate, binary: true },
  ].filter((x) => x.lines.length > 0);
  if (charts.length === 0 || s.time.length < 2) return <div class="card"><Empty title="No samples of the last hour" icon="list">They come every ten seconds while the agent is connected.</Empty></div>;
  return <div class="charts">{charts.map((x) => <Chart key={x.title} {...x} time={s.time} sync="cluster" />)}</div>;
}

export function Overview({ cluster, row }: { cluster: ManagedCluster; row: ClusterRow | undefined }) {
  const name = cluster.metadata!.name!;
  const sample = usePoll((signal) => get<ClusterMetrics>(at(metrics, "", name), signal), [name]);
  const samples = usePoll((signal) => loadSamples(name, signal), [name]);
  const claims = cluster.status?.clusterClaims ?? [], taints = cluster.spec.taints ?? [];
  return (
    <>
      <Facts cluster={cluster} row={row} />
      <div class="cards two">
        <Capacity cluster={cluster} sample={sample.value} />
        <section class="card"><header><h2>Conditions</h2></header><Conditions list={cluster.status?.conditions} /></section>
      </div>
      {samples.value ? <Charts samples={samples.value} /> : samples.wrong ? <p class="dim small">Charts: {samples.wrong}</p> : <Loading what="the samples of the last hour" />}
      <section class="card">
        <header><h2>Details</h2></header>
        <div class="in">
          <dl class="facts">
            <dt>Labels</dt><dd><Labels labels={cluster.metadata?.labels} /></dd>
            <dt>Claims</dt><dd>{claims.length ? <span class="tags">{claims.map((c) => <span key={c.name} class="tag" title={`${c.name}=${c.value}`}><span>{c.name}</span><span>{c.value}</span></span>)}</span> : <span class="faint">none</span>}</dd>
            <dt>Taints</dt><dd>{taints.length ? <span class="tags">{taints.map((t) => <span key={t.key + t.effect} class="tag"><span>{t.key}{t.value && "=" + t.value}</span><span>{t.effect}</span></span>)}</span> : <span class="faint">none</span>}</dd>
            <dt>Created</dt><dd><Age at={cluster.metadata?.creationTimestamp} suffix=" ago" /></dd>
            <dt>Agent</dt><dd>{cluster.spec.hubAcceptsClient ? "accepted" : "refused"}</dd>
          </dl>
        </div>
      </section>
    </>
  );
}
