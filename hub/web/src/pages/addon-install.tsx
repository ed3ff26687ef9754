// Installing and removing: first what each cluster would get, by groups that get the
// same; then, with progress, one cluster after the other.

import { useEffect, useId, useMemo, useState } from "preact/hooks";
import type { ClusterRow, Config, InstalledRow, ManagedClusterAddOn, Preview, PreviewOutcome, VersionRow } from "../api";
import { get, patch, Refusal, say, send } from "../client";
import { matcher, parse, type Shape } from "../filter";
import { count, natural, plural, short } from "../format";
import { Action } from "../parts/button";
import { Dialog, Note } from "../parts/dialog";
import { ObjectDiffs } from "../parts/diff";
import { Loading } from "../parts/states";
import { Status } from "../parts/status";
import { toast } from "../parts/toast";
import { apiVersion, at, installed, versions as versionsResource } from "../resources";
import { query, setQuery } from "../router";
import { useTable } from "../rows";
import { action } from "../words";

const CLUSTERS: Shape<ClusterRow> = {
  text: (c) => [c.name], labels: (c) => c.labels,
  fields: { phase: (c) => c.phase, name: (c) => c.name, set: (c) => c.set, kubernetes: (c) => c.kubernetes, version: (c) => c.agent },
};

function usePreview(addon: string, version: string, clusters: string[], remove: boolean) {
  const [preview, setPreview] = useState<Preview | undefined>();
  const [wrong, setWrong] = useState<Error | undefined>();
  const key = version + "|" + clusters.join();
  useEffect(() => {
    setPreview(undefined);
    setWrong(undefined);
    if (clusters.length === 0) return;
    let gone = false;
    const wait = setTimeout(() => {
      send<Preview>("POST", "/v1/addons/preview", { addOn: addon, version: version || undefined, clusters, remove: remove || undefined })
        .then((p) => { if (!gone) setPreview(p); }, (e: Error) => { if (!gone) setWrong(e); });
    }, 400);
    return () => {
      gone = true;
      clearTimeout(wait);
    };
  }, [key]);
  return { preview, wrong };
}

const FIRST = 12;

function Names({ list }: { list: string[] }) {
  const [all, setAll] = useState(false);
  const shown = all ? list : list.slice(0, FIRST);
  return <span class="tags">{shown.map((c) => <span key={c} class="tag"><span>{c}</span></span>)}{list.length > shown.length && <button type="button" class="btn tiny plain" onClick={() => setAll(true)}>and {count(list.length - shown.length)} more</button>}</span>;
}

function Outcome({ of: o, remove }: { of: PreviewOutcome; remove: boolean }) {
  const objects = (o.objects ?? []).filter((x) => x.action !== "none");
  return (
    <section class="card">
      <header><Status word={o.error ? "Failed" : objects.length ? "info" : "ok"} hue={o.error ? "bad" : objects.length ? "busy" : "none"}>{plural(o.clusters.length, "cluster")}</Status>
        <span class="dim push small">{o.error ? "get nothing" : remove ? "lose" : o.version ? `get ${o.version}${o.digest ? ", " + short(o.digest) : ""}` : ""}</span></header>
      <div class="in stack">
        <Names list={o.clusters} />
        {o.error && <Note hue="bad">{o.error}</Note>}
        {o.requires && o.requires.length > 0 && <p class="small">Installed before it: {o.requires.join(", ")}</p>}
        {!o.error && (objects.length ? <ObjectDiffs list={objects} /> : <p class="dim small">{remove ? "Nothing of it is there." : "Nothing changes there."}</p>)}
        {o.values && o.values.length > 0 && (
          <details><summary class="small dim">{plural(o.values.length, "value")}, and where each comes from</summary>
            <table class="drifted"><tbody>{o.values.map((v) => <tr key={v.path}><td>{v.path}</td><td>{JSON.stringify(v.value)}</td><td class="dim">{v.layer}: {v.from}</td></tr>)}</tbody></table></details>
        )}
      </div>
    </section>
  );
}

function Outcomes({ preview, wrong, remove, n }: { preview: Preview | undefined; wrong: Error | undefined; remove: boolean; n: number }) {
  if (n === 0) return <p class="dim">Choose clusters, and what each would get is shown here.</p>;
  if (wrong instanceof Refusal && (wrong.status === 404 || wrong.status === 405)) return <Note hue="warn">This hub cannot say beforehand what each cluster gets. Changes are checked when they are made.</Note>;
  if (wrong) return <Note hue="bad">{say(wrong)}</Note>;
  if (!preview) return <Loading what="the preview" lines={4} />;
  const list = preview.outcomes.slice().sort((a, b) => Number(Boolean(b.error)) - Number(Boolean(a.error)) || b.clusters.length - a.clusters.length);
  return <div class="stack" aria-live="polite">{list.map((o, i) => <Outcome key={i} of={o} remove={remove} />)}</div>;
}

type Progress = { done: number; total: number; failed: { cluster: string; why: string }[] };

/** each does something for all clusters, several at a time, and goes on after a failure. */
async function each(clusters: string[], f: (cluster: string) => Promise<unknown>, tell: (p: Progress) => void): Promise<Progress> {
  const p: Progress = { done: 0, total: clusters.length, failed: [] };
  const rest = clusters.slice();
  const worker = async () => {
    for (let c = rest.shift(); c !== undefined; c = rest.shift()) {
      try {
        await f(c);
      } catch (e) {
        p.failed.push({ cluster: c, why: say(e) });
      }
      p.done++;
      tell({ ...p });
    }
  };
  await Promise.all(Array.from({ length: 6 }, worker));
  return p;
}

function Running({ progress: p, verb }: { progress: Progress; verb: string }) {
  return (
    <div class="stack" role="status">
      <label class="stack"><span>{verb}: {count(p.done)} of {plural(p.total, "cluster")}</span><progress value={p.done} max={p.total} /></label>
      {p.failed.length > 0 && <Note hue="bad">{plural(p.failed.length, "cluster")} refused:<ul class="small">{p.failed.slice(0, 20).map((f) => <li key={f.cluster}><b>{f.cluster}</b>: {f.why}</li>)}</ul></Note>}
    </div>
  );
}

const GONE = { group: versionsResource.group, resource: versionsResource.plural };

/** configsFor keeps what else is configured, and names the version. */
export function configsFor(before: Config[] | undefined, version: string): Config[] {
  return [...(before ?? []).filter((c) => c.group !== GONE.group || c.resource !== GONE.resource), { ...GONE, name: version }];
}

async function put(cluster: string, addon: string, version: string, there: boolean): Promise<void> {
  if (!there) {
    await send("POST", at(installed, cluster), { apiVersion: apiVersion(installed), kind: installed.kind, metadata: { name: addon, namespace: cluster }, spec: { configs: configsFor([], version) } });
    return;
  }
  const old = await get<ManagedClusterAddOn>(at(installed, cluster, addon));
  await patch(at(installed, cluster, addon), { metadata: { resourceVersion: old.metadata!.resourceVersion }, spec: { configs: configsFor(old.spec.configs, version) } });
}

type InstallProps = { addon: string; versions: VersionRow[]; runs: InstalledRow[]; close: () => void };

export function Install({ addon, versions, runs, close }: InstallProps) {
  const id = useId();
  const table = useTable("clusters");
  const active = versions.filter((v) => v.active);
  const version = active.find((v) => v.version === query("v")) ?? active.find((v) => v.default) ?? active[0];
  const text = query("on");
  const parsed = parse(text, Object.keys(CLUSTERS.fields));
  const all = table.list();
  const chosen = useMemo(() => (text.trim() === "" || parsed.problem ? [] : all.filter(matcher(parsed, CLUSTERS)).map((c) => c.name).sort(natural)), [all, text]);
  const { preview, wrong } = usePreview(addon, version?.version ?? "", chosen, false);
  const [progress, setProgress] = useState<Progress | undefined>();
  const failing = new Set(preview?.outcomes.filter((o) => o.error).flatMap((o) => o.clusters));
  const good = chosen.filter((c) => !failing.has(c));
  const here = new Set(runs.map((r) => r.cluster));
  const why = !version ? "There is no active version." : chosen.length === 0 ? "Choose clusters first." : !preview && !wrong ? "Wait for the preview." : good.length === 0 ? "No cluster would get anything." : undefined;
  const run = async () => {
    const p = await each(good, (c) => put(c, addon, version!.name, here.has(c)), setProgress);
    if (p.failed.length === 0) {
      toast({ text: `${addon} ${version!.version} is on its way to ${plural(p.total, "cluster")}.`, hue: "ok" });
      close();
    }
  };
  return (
    <Dialog title={`Install ${addon}`} kind="wide" onClose={close}>
      <div class="body">
        {progress ? <Running progress={progress} verb="Installed" /> : (
          <>
            <div class="cards two">
              <div class="field"><label for={id + "v"}>Version</label>
                <select id={id + "v"} class="input" value={version?.version} onChange={(e) => setQuery({ v: e.currentTarget.value })}>{active.map((v) => <option key={v.name} value={v.version}>{v.version}{v.default ? " (default)" : ""}{v.channel ? ", " + v.channel : ""}</option>)}</select></div>
              <div class="field"><label for={id + "c"}>Clusters</label>
                <input id={id + "c"} class="input mono" data-first value={text} placeholder="region=eu  phase:Online  name:shop-1,shop-2" spellcheck={false} autocomplete="off" aria-invalid={parsed.problem ? "true" : undefined} aria-describedby={id + "h"} onInput={(e) => setQuery({ on: e.currentTarget.value })} />
                <span id={id + "h"} class={parsed.problem ? "wrong" : "help"} role="status">{parsed.problem ?? (text ? `${plural(chosen.length, "cluster")} of ${count(all.length)}` : "In the filter language of the fleet: labels, names, phases.")}</span></div>
            </div>
            <Outcomes preview={preview} wrong={wrong} remove={false} n={chosen.length} />
          </>
        )}
        <footer><button class="btn" onClick={close}>{progress ? "Close" : "Cancel"}</button>{!progress && <Action kind="first" why={why} run={run}>{action("install-addon", addon).verb} on {plural(good.length, "cluster")}</Action>}</footer>
      </div>
    </Dialog>
  );
}

export function Uninstall({ addon, runs, close }: { addon: string; runs: InstalledRow[]; close: () => void }) {
  const id = useId();
  const words = action("remove-addon", addon);
  const text = query("on");
  const [typed, setTyped] = useState("");
  const [progress, setProgress] = useState<Progress | undefined>();
  const SHAPE: Shape<InstalledRow> = { text: (r) => [r.cluster], fields: { name: (r) => r.cluster, phase: (r) => r.phase, version: (r) => r.version } };
  const parsed = parse(text, Object.keys(SHAPE.fields));
  const chosen = runs.filter(matcher(parsed, SHAPE)).map((r) => r.cluster).sort(natural);
  const { preview, wrong } = usePreview(addon, "", chosen, true);
  const failing = new Set(preview?.outcomes.filter((o) => o.error).flatMap((o) => o.clusters));
  const good = chosen.filter((c) => !failing.has(c));
  const why = good.length === 0 ? "No cluster is chosen that it can be removed from." : !preview && !wrong ? "Wait for the preview." : typed.trim() !== addon ? `Type ${addon} first.` : undefined;
  const run = async () => {
    const p = await each(good, (c) => send("DELETE", at(installed, c, addon)), setProgress);
    if (p.failed.length === 0) {
      toast({ text: `${addon} is being removed from ${plural(p.total, "cluster")}.` });
      close();
    }
  };
  return (
    <Dialog title={`Remove ${addon}`} kind="wide" onClose={close}>
      <div class="body">
        {progress ? <Running progress={progress} verb="Removed" /> : (
          <>
            <p>{words.consequence}</p>
            <div class="field"><label for={id + "c"}>From which clusters <span class="dim">(empty: all that it runs on)</span></label>
              <input id={id + "c"} class="input mono" data-first value={text} placeholder="name:shop-1  phase:Failed" spellcheck={false} autocomplete="off" onInput={(e) => setQuery({ on: e.currentTarget.value })} />
              <span class={parsed.problem ? "wrong" : "help"} role="status">{parsed.problem ?? `${plural(chosen.length, "cluster")} of ${count(runs.length)}`}</span></div>
            <Outcomes preview={preview} wrong={wrong} remove n={chosen.length} />
            <div class="field"><label for={id + "n"}>Type <code class="strong">{addon}</code>, the name of the addon, to go on</label>
              <input id={id + "n"} class="input mono" value={typed} autocomplete="off" spellcheck={false} onInput={(e) => setTyped(e.currentTarget.value)} /></div>
          </>
        )}
        <footer><button class="btn" onClick={close}>{progress ? "Close" : "Cancel"}</button>{!progress && <Action kind="first danger" why={why} run={run}>{words.verb} from {plural(good.length, "cluster")}</Action>}</footer>
      </div>
    </Dialog>
  );
}
