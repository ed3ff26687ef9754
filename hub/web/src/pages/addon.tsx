// One addon: its versions, and where which of them runs.

import "../common";
import type { InstalledRow, VersionRow } from "../api";
import { matcher, parse, type Shape } from "../filter";
import { bytes, compareVersions, count, plural, seconds } from "../format";
import { useKeys } from "../keys";
import { Action } from "../parts/button";
import { Share } from "../parts/meter";
import { Search } from "../parts/search";
import { Empty, Guard } from "../parts/states";
import { Age, Digest, Status } from "../parts/status";
import { DataTable, type Column } from "../parts/table";
import { Head } from "../parts/title";
import { installed } from "../resources";
import { go, query, setQuery, to } from "../router";
import { useTable } from "../rows";
import { useWhyNot } from "../session";
import { hueOf, order, type Hue } from "../words";
import { Install, Uninstall } from "./addon-install";
import { NotFound } from "./screens";

const versionColumns = (addon: string, all: VersionRow[]): Column<VersionRow>[] => [
  { key: "version", label: "Version", cell: (v) => <span><a class="main" href={to("addons", addon, "versions", v.version)}>{v.version}</a>{v.default && <> <span class="pill busy">default</span></>}</span>, sort: (v) => rank(all, v) },
  { key: "phase", label: "Phase", cell: (v) => <Status word={v.phase} />, sort: (v) => order("version", v.phase) },
  { key: "clusters", label: "Clusters", cell: (v) => (v.clusters ? <a href={to("addons", addon) + "?q=" + encodeURIComponent("version:" + v.version)}>{count(v.clusters)}</a> : <span class="faint">0</span>), sort: (v) => v.clusters, num: true },
  { key: "objects", label: "Objects", cell: (v) => count(v.objects), sort: (v) => v.objects, num: true },
  { key: "size", label: "Size", cell: (v) => (v.size ? bytes(v.size) : <span class="faint">inline</span>), sort: (v) => v.size, num: true },
  { key: "manager", label: "Kind", cell: (v) => v.manager || "manifests", sort: (v) => v.manager },
  { key: "channel", label: "Channel", cell: (v) => v.channel || <span class="faint">–</span>, sort: (v) => v.channel },
  { key: "digest", label: "Digest", cell: (v) => <Digest of={v.digest} /> },
  { key: "age", label: "Age", cell: (v) => <Age at={v.created} />, sort: (v) => -seconds(v.created), num: true },
  { key: "what", label: "What it says", cell: (v) => <span class="dim" title={v.reason || v.description}>{hueOf(v.phase) === "bad" ? v.reason : v.description}</span>, kind: "wide" },
];

/** rank is the place among the versions, the newest first. */
const rank = (all: VersionRow[], v: VersionRow): number => all.filter((o) => compareVersions(o.version, v.version) > 0).length;

const WHERE: Column<InstalledRow>[] = [
  { key: "cluster", label: "Cluster", cell: (a) => <a class="main" href={to("clusters", a.cluster, "addons") + "?why=" + encodeURIComponent(a.name)}>{a.cluster}</a>, sort: (a) => a.cluster },
  { key: "version", label: "Version", cell: (a) => a.version || <span class="faint">–</span>, sort: (a) => a.version },
  { key: "phase", label: "Phase", cell: (a) => <Status word={a.phase} />, sort: (a) => order("addon", a.phase) },
  { key: "desired", label: "Desired", cell: (a) => <Digest of={a.desired} /> },
  { key: "applied", label: "Applied", cell: (a) => (a.applied && a.applied === a.desired ? <span class="dim">the same</span> : <Digest of={a.applied} />) },
  { key: "since", label: "Since", cell: (a) => <Age at={a.since} />, sort: (a) => -seconds(a.since), num: true },
  { key: "reason", label: "Reason", cell: (a) => <span class="dim" title={a.reason}>{hueOf(a.phase) === "ok" ? "" : a.reason}</span>, kind: "wide" },
];

const SHAPE: Shape<InstalledRow> = { text: (a) => [a.cluster, a.reason], fields: { phase: (a) => a.phase, version: (a) => a.version, cluster: (a) => a.cluster } };

function Where({ rows, addon, install, why }: { rows: InstalledRow[]; addon: string; install: () => void; why: string | undefined }) {
  const text = query("q");
  const parsed = parse(text, Object.keys(SHAPE.fields));
  const shown = text ? rows.filter(matcher(parsed, SHAPE)) : rows;
  const n: Record<Hue, number> = { bad: 0, warn: 0, busy: 0, none: 0, ok: 0 };
  for (const r of rows) n[hueOf(r.phase)]++;
  if (rows.length === 0) return <Empty title={`${addon} runs nowhere`} icon="addon" actions={<Action kind="first" why={why} run={install}>Install…</Action>} />;
  return (
    <div class="stack">
      <Share label={`${n.ok} of ${rows.length} healthy`} parts={(Object.keys(n) as Hue[]).map((hue) => ({ hue, n: n[hue] }))} />
      <div class="toolbar"><Search label="Filter the clusters that run it" hint="phase:Failed  version:<1.3  text" problem={parsed.problem} /></div>
      {shown.length === 0 ? <Empty title="No cluster fits the filter" actions={<button class="btn" onClick={() => setQuery({ q: "" })}>Clear the filter</button>} />
        : <DataTable label={`Clusters that run ${addon}`} rows={shown} columns={WHERE} keyOf={(a) => a.cluster} first="phase" param="wsort" />}
    </div>
  );
}

export function Addon({ params }: { params: Record<string, string> }) {
  const name = params.name!;
  const addons = useTable("addons"), all = useTable("versions"), where = useTable("installed");
  const row = addons.row(name);
  const versions = all.list().filter((v) => v.addon === name);
  const runs = where.list().filter((a) => a.name === name);
  const mayInstall = useWhyNot({ verb: "create", on: installed }), mayRemove = useWhyNot({ verb: "delete", on: installed });
  const whyInstall = mayInstall ?? (versions.some((v) => v.active) ? undefined : "There is no active version to install.");
  const install = () => setQuery({ do: "install" }, {});
  const newest = versions.slice().sort((a, b) => compareVersions(b.version, a.version));
  useKeys([{ keys: "i", label: "Install", group: "This addon", run: () => whyInstall ?? install() }, { keys: "d", label: "Compare the two newest versions", group: "This addon", run: () => { if (newest.length > 1) go(to("addons", name, "versions", newest[0]!.version) + "?from=" + encodeURIComponent(newest[1]!.version)); } }], [name, whyInstall, newest.length]);
  if (addons.state.value === "ready" && !row) return <NotFound what="addon" name={name} />;
  const close = () => setQuery({ do: "", on: "", v: "" });
  return (
    <>
      <Head title={row?.title || name} beside={row && row.title !== name && row.title ? name : undefined} tab={name} crumbs={[["Addons", "/addons"]]} lead={row?.description}
        actions={<><Action kind="first" why={whyInstall} run={install}>Install…</Action><Action kind="danger" why={mayRemove ?? (runs.length ? undefined : "It runs nowhere.")} run={() => setQuery({ do: "remove" }, {})}>Remove…</Action></>} />
      <Guard of={all} what="the versions">
        {() => versions.length === 0 ? <Empty title="No version was pushed yet" icon="addon"><code>drover addon push {name}@1.0.0 DIR --default</code></Empty>
          : <section class="stack"><div class="row"><h2>{plural(versions.length, "version")}</h2>{newest.length > 1 && <a class="push" href={to("addons", name, "versions", newest[0]!.version) + "?from=" + encodeURIComponent(newest[1]!.version)}>Compare {newest[1]!.version} with {newest[0]!.version}</a>}</div><DataTable label="Versions" rows={versions} columns={versionColumns(name, versions)} keyOf={(v) => v.name} first="version" /></section>}
      </Guard>
      <section class="stack">
        <h2>Where it runs</h2>
        <Guard of={where} what="where it runs">{() => <Where rows={runs} addon={name} install={install} why={whyInstall} />}</Guard>
      </section>
      {query("do") === "install" && <Install addon={name} versions={newest} runs={runs} close={close} />}
      {query("do") === "remove" && <Uninstall addon={name} runs={runs} close={close} />}
    </>
  );
}
