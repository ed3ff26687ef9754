// The catalog: what can be installed on clusters, and how it is where it is.

import "../common";
import type { AddOnRow } from "../api";
import { matcher, parse, type Shape } from "../filter";
import { count } from "../format";
import { Code } from "../parts/code";
import { Share } from "../parts/meter";
import { Search } from "../parts/search";
import { Empty, Guard } from "../parts/states";
import { Age, Status } from "../parts/status";
import { DataTable, type Column } from "../parts/table";
import { Head } from "../parts/title";
import { query, setQuery, to } from "../router";
import { useTable } from "../rows";

const unseen = <span class="faint" title="You may not see these">–</span>;

function Where({ addon: a }: { addon: AddOnRow }) {
  if (a.installed === null) return unseen;
  if (a.installed === 0) return <span class="faint">nowhere</span>;
  const ok = a.healthy ?? 0, bad = a.problems ?? 0;
  return (
    <span class="row nowrap">
      <span class="addonshare"><Share label={`${ok} healthy, ${bad} with problems, of ${a.installed}`} parts={[{ hue: "bad", n: bad }, { hue: "busy", n: Math.max(0, a.installed - ok - bad) }, { hue: "ok", n: ok }]} /></span>
      {bad ? <Status word="Unhealthy">{count(bad)} with problems</Status> : ok === a.installed ? <Status word="Healthy" /> : <Status word="Progressing" />}
    </span>
  );
}

const COLUMNS: Column<AddOnRow>[] = [
  { key: "name", label: "Addon", cell: (a) => <a class="main" href={to("addons", a.name)}>{a.name}</a>, sort: (a) => a.name },
  { key: "installed", label: "Clusters", cell: (a) => (a.installed === null ? unseen : count(a.installed)), sort: (a) => a.installed, num: true },
  { key: "health", label: "How it is there", cell: (a) => <Where addon={a} />, sort: (a) => -(a.problems ?? 0) },
  { key: "default", label: "Default version", cell: (a) => (a.default ? <a href={to("addons", a.name, "versions", a.default)}>{a.default}</a> : <span class="faint">none</span>), sort: (a) => a.default },
  { key: "versions", label: "Versions", cell: (a) => (a.versions === null ? unseen : count(a.versions)), sort: (a) => a.versions, num: true },
  { key: "strategy", label: "Installed by", cell: (a) => (a.strategy === "Placements" ? "placements" : "hand"), sort: (a) => a.strategy },
  { key: "age", label: "Age", cell: (a) => <Age at={a.created} />, sort: (a) => -a.created, num: true },
  { key: "what", label: "What it is", cell: (a) => <span class="dim" title={a.description}>{[a.title !== a.name && a.title, a.description].filter(Boolean).join(": ")}</span>, kind: "wide" },
];

const SHAPE: Shape<AddOnRow> = { text: (a) => [a.name, a.title, a.description], fields: { installed: (a) => a.installed, problems: (a) => a.problems, default: (a) => a.default, versions: (a) => a.versions } };

export function Addons(_: { params: Record<string, string> }) {
  const table = useTable("addons");
  const text = query("q"), all = table.list();
  const parsed = parse(text, Object.keys(SHAPE.fields));
  const rows = text ? all.filter(matcher(parsed, SHAPE)) : all;
  return (
    <>
      <Head title="Addons" lead="What can be installed on clusters, in versions that do not change under them." />
      <Guard of={table} what="the addons">
        {() => all.length === 0
          ? <Empty title="The catalog is empty" icon="addon" actions={<div class="stack"><Code text="drover addon push NAME@1.0.0 DIR --default" label="the command" /></div>}>An addon is a folder of manifests, a kustomization or a chart. Push one, and it can be installed from here.</Empty>
          : (
            <>
              <div class="toolbar"><Search label="Filter addons" hint="text  problems:>0" problem={parsed.problem} /></div>
              {rows.length === 0 ? <Empty title="No addon fits the filter" actions={<button class="btn" onClick={() => setQuery({ q: "" })}>Clear the filter</button>} />
                : <DataTable label="Addons" rows={rows} columns={COLUMNS} keyOf={(a) => a.name} first="name" />}
            </>
          )}
      </Guard>
    </>
  );
}
