// One version of an addon: what is in it, what it needs, and what changes from
// another version to it.

import "../common";
import { useEffect, useState } from "preact/hooks";
import type { AddOnVersion, VersionContent, VersionDiff } from "../api";
import { get, say } from "../client";
import { bytes, compareVersions, count, plural } from "../format";
import { Conditions } from "../parts/conditions";
import { FieldDiff, ObjectDiffs } from "../parts/diff";
import { Note } from "../parts/dialog";
import { Source } from "../parts/source";
import { Empty, Guard, Loading } from "../parts/states";
import { Age, Digest, Status } from "../parts/status";
import { Head } from "../parts/title";
import { versions as resource } from "../resources";
import { query, setQuery, to } from "../router";
import { useObject, useTable } from "../rows";
import { hueOf } from "../words";
import { documents } from "../yaml";
import { NotFound } from "./screens";

/** useGet asks once, and again when the path changes. */
function useGet<T>(path: string): { value: T | undefined; wrong: string } {
  const [state, setState] = useState<{ path: string; value?: T; wrong?: string }>({ path: "" });
  useEffect(() => {
    if (!path) return;
    const aborter = new AbortController();
    get<T>(path, aborter.signal).then((value) => setState({ path, value }), (e: unknown) => { if (!aborter.signal.aborted) setState({ path, wrong: say(e) }); });
    return () => aborter.abort();
  }, [path]);
  return state.path === path ? { value: state.value, wrong: state.wrong ?? "" } : { value: undefined, wrong: "" };
}

function Difference({ from, to: end }: { from: string; to: string }) {
  const d = useGet<VersionDiff>(`/v1/addons/diff?from=${encodeURIComponent(from)}&to=${encodeURIComponent(end)}`);
  if (d.wrong) return <Note hue="warn">{d.wrong}</Note>;
  if (!d.value) return <Loading what="the difference" lines={5} />;
  const objects = d.value.objects.filter((o) => o.action !== "none");
  return (
    <div class="stack">
      {d.value.spec && d.value.spec.length > 0 && <FieldDiff title="The version itself" changes={d.value.spec.map((f) => ({ path: f.path, before: f.live || undefined, after: f.desired || undefined }))} />}
      {objects.length ? <ObjectDiffs list={objects} /> : <Empty title="The objects are the same" icon="check" />}
    </div>
  );
}

const ranges = (list: { addOn: string; versionRange?: string }[] | undefined) => (list?.length ? list.map((r) => `${r.addOn} ${r.versionRange ?? "any version"}`).join(", ") : "none");

export function Version({ params }: { params: Record<string, string> }) {
  const addon = params.name!, version = params.version!;
  const table = useTable("versions");
  const all = table.list().filter((v) => v.addon === addon).sort((a, b) => compareVersions(b.version, a.version));
  const row = all.find((v) => v.version === version);
  const { object } = useObject<AddOnVersion>(resource, "", row?.name ?? addon + "-" + version.replace(/^v/, "").replace("+", "."));
  const from = query("from"), other = all.find((v) => v.version === from);
  const content = useGet<VersionContent>(row && !from ? "/v1/addons/content/" + encodeURIComponent(row.name) : "");
  if (table.state.value === "ready" && !row) return <NotFound what={`version of ${addon}`} name={version} />;
  const spec = object?.spec, status = object?.status;
  const needs = spec?.requirements;
  const inline = spec?.manifests ?? [];
  const text = content.value ? documents(content.value.manifests ?? []) : content.wrong && inline.length ? documents(inline) : "";
  return (
    <>
      <Head title={`${addon} ${version}`} crumbs={[["Addons", "/addons"], [addon, to("addons", addon)]]} beside={row && <Status word={row.phase} />}
        actions={<a class="btn first" href={to("addons", addon) + "?do=install&v=" + encodeURIComponent(version)}>Install…</a>} lead={spec?.description} />
      <Guard of={table} what="this version">
        {() => row && (
          <>
            {row.reason && hueOf(row.phase) !== "ok" && <Note hue={hueOf(row.phase)}>{row.reason}</Note>}
            <div class="statline">
              <div><span class="label">Clusters</span><span class="big"><a href={to("addons", addon) + "?q=" + encodeURIComponent("version:" + version)}>{count(row.clusters)}</a></span></div>
              <div><span class="label">Objects</span><span class="big">{count(row.objects)}</span><span class="dim small">{status?.kinds?.length ? plural(status.kinds.length, "kind") : ""}</span></div>
              <div><span class="label">Content</span><span class="big"><Digest of={row.digest} /></span><span class="dim small">{row.manager || "manifests"}{row.size ? ", " + bytes(row.size) : ""}</span></div>
              <div><span class="label">Pushed</span><span class="big"><Age at={row.created} suffix=" ago" /></span><span class="dim small">{row.signedBy ? "signed by " + row.signedBy : "not signed"}</span></div>
            </div>
            <div class="cards two">
              <section class="card"><header><h2>What it needs</h2></header><div class="in"><dl class="facts">
                <dt>Addons</dt><dd>{ranges(spec?.dependencies)}</dd>
                <dt>Not together with</dt><dd>{ranges(spec?.conflicts)}</dd>
                <dt>Kubernetes</dt><dd>{needs?.kubernetes || "any version"}</dd>
                <dt>Nodes</dt><dd>{[needs?.nodes?.minimum && `at least ${needs.nodes.minimum}`, needs?.nodes?.architectures?.join(" or "), needs?.nodes?.cpu && `${needs.nodes.cpu} CPU free`, needs?.nodes?.memory && `${needs.nodes.memory} memory free`].filter(Boolean).join(", ") || "any"}</dd>
                {needs?.apis && <><dt>APIs</dt><dd>{needs.apis.join(", ")}</dd></>}
                <dt>Upgrade from</dt><dd>{spec?.upgrade?.from || "any older version"}{spec?.upgrade?.downgrade ? ", and back" : ""}</dd>
                {status?.images?.length ? <><dt>Images</dt><dd>{status.images.map((i) => <div key={i}><code>{i}</code></div>)}</dd></> : null}
              </dl></div></section>
              <section class="card"><header><h2>Conditions</h2></header><Conditions list={status?.conditions} generation={object?.metadata?.generation} /></section>
            </div>
            <div class="row">
              <div class="seg" role="group" aria-label="What is shown">
                <button aria-pressed={!from} onClick={() => setQuery({ from: "" })}>Content</button>
                <button aria-pressed={Boolean(from)} onClick={() => setQuery({ from: from || (all.find((v) => compareVersions(v.version, version) < 0) ?? all.find((v) => v.version !== version))?.version || "" })}>Difference</button>
              </div>
              {from && <label class="row">from <select class="input narrow" value={from} onChange={(e) => setQuery({ from: e.currentTarget.value })}>{all.filter((v) => v.version !== version).map((v) => <option key={v.name} value={v.version}>{v.version}</option>)}</select> to {version}</label>}
            </div>
            {from ? other ? <Difference from={other.name} to={row.name} /> : <Note hue="none">There is no version {from} of {addon}.</Note>
              : text ? <Source title="What it renders to with its default values" text={text} />
                : content.wrong || content.value?.error ? <Note hue="warn">{content.value?.error ?? content.wrong}</Note> : <Loading what="the content" />}
          </>
        )}
      </Guard>
    </>
  );
}
