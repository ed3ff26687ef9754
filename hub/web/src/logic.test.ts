// What can be wrong without a page. Bundled and run by a test; nothing that browsers
// load names this file.

import { matcher, only, parse, toggle, words } from "./filter";
import { bytes, compareVersions, duration, groups, hexOnly, quantity, seconds, short } from "./format";
import { fieldsOf } from "./fields";
import { ask } from "./pages/audit";
import { configsFor } from "./pages/addon-install";
import { change } from "./pages/cluster-actions";
import { compared } from "./pages/requests";
import { news } from "./parts/announce";
import { read } from "./parts/labels";
import { shareOf } from "./parts/meter";
import { score } from "./parts/palette";
import { sorted } from "./parts/table";
import { match } from "./router";
import { decode, objectKey, Table } from "./store";
import { tokenPhase } from "./words";
import { documents, yaml } from "./yaml";

type Row = { name: string; phase: string; version: string; cpu: number | null; labels: Record<string, string> };
const ROWS: Row[] = [
  { name: "shop-1", phase: "Online", version: "v1.2.9", cpu: 90, labels: { region: "eu", env: "prod" } },
  { name: "shop-2", phase: "Offline", version: "v1.10.0", cpu: null, labels: { region: "us" } },
  { name: "Edge box", phase: "Offline", version: "", cpu: 5, labels: {} },
];
const SHAPE = {
  text: (r: Row) => [r.name], labels: (r: Row) => r.labels,
  fields: { phase: (r: Row) => r.phase, version: (r: Row) => r.version, cpu: (r: Row) => r.cpu, name: (r: Row) => r.name },
};
const filtered = (text: string): string => ROWS.filter(matcher(parse(text, Object.keys(SHAPE.fields)), SHAPE)).map((r) => r.name).join();

/** run returns what is not as it should be. */
export function run(): string[] {
  const wrong: string[] = [];
  const is = (what: string, have: unknown, want: unknown) => {
    const h = JSON.stringify(have), w = JSON.stringify(want);
    if (h !== w) wrong.push(`${what}: ${h}, want ${w}`);
  };

  is("no filter", filtered(""), "shop-1,shop-2,Edge box");
  is("text", filtered("SHOP"), "shop-1,shop-2");
  is("quoted text", filtered('"edge b"'), "Edge box");
  is("field", filtered("phase:offline"), "shop-2,Edge box");
  is("field, several values", filtered("name:shop-1,shop-2"), "shop-1,shop-2");
  is("field, prefix", filtered("name:shop-*"), "shop-1,shop-2");
  is("version compared as such", filtered("version:<1.3"), "shop-1");
  is("version, nothing known", filtered("version:>=0"), "shop-1,shop-2");
  is("number compared as such", filtered("cpu:>80"), "shop-1");
  is("label", filtered("region=eu,us"), "shop-1,shop-2");
  is("label that differs or is absent", filtered("region!=eu"), "shop-2,Edge box");
  is("label of any value", filtered("region=*"), "shop-1,shop-2");
  is("negation", filtered("-phase:Offline"), "shop-1");
  is("all must hold", filtered("phase:Offline region=us"), "shop-2");
  is("half typed", filtered("phase:"), "shop-1,shop-2,Edge box");
  is("unknown field", parse("colour:red", ["phase"]).problem, "“colour:” is no field. Fields are phase.");
  is("words", words('a "b c" d:"e f"'), ["a", "b c", "d:e f"]);
  is("toggle on", toggle("text", "phase", "Offline"), "phase:Offline text");
  is("toggle to another", toggle("phase:Offline text", "phase", "Online"), "phase:Online text");
  is("toggle off", toggle("phase:Offline text", "phase", "Offline"), "text");
  is("only", only("text phase:Offline", "phase"), "Offline");

  is("durations", [0, 45, 119, 120, 200, 600, 3600 * 3 + 120, 3600 * 20, 86400 * 3 + 7200, 86400 * 98].map(duration), ["0s", "45s", "119s", "2m", "3m20s", "10m", "3h2m", "20h", "3d2h", "98d"]);
  is("seconds", [seconds("1970-01-01T00:01:00Z"), seconds(60), seconds(""), seconds("0001-01-01T00:00:00Z"), seconds(undefined)], [60, 60, 0, 0, 0]);
  is("bytes", [0, 1023, 1536, 5 * 2 ** 30].map(bytes), ["0 B", "1023 B", "1.5 KiB", "5 GiB"]);
  is("quantities", ["4", "3500m", "16Gi", "1e3", "500u", "x", ""].map((q) => quantity(q) ?? null), [4, 3.5, 16 * 2 ** 30, 1000, 0.0005, null, null]);
  is("versions", ["1.10.0", "1.9.3", "1.10.0-rc.2", "v1.2", "1.10.0-rc.10"].sort(compareVersions), ["v1.2", "1.9.3", "1.10.0-rc.2", "1.10.0-rc.10", "1.10.0"]);
  is("digest", [short("sha256:0123456789abcdef"), short(undefined)], ["0123456789ab", "none"]);

  const print = "0123456789abcdef".repeat(4);
  is("eight groups", [groups(print).length, groups(print)[0]], [8, "01234567"]);
  is("pasted", hexOnly("SHA256:01:23 AB\n"), "0123ab");
  is("fingerprints", ["", "0123", print.toUpperCase(), print.slice(-16), print.slice(0, 15) + "0", "f".repeat(64), "sha256:" + print].map((p) => compared(print, p)), ["none", "short", "same", "same", "different", "different", "same"]);

  is("tokens end", [tokenPhase({ phase: "Open", expires: 10 }, 9), tokenPhase({ phase: "Open", expires: 10 }, 10), tokenPhase({ phase: "Open", expires: 0 }, 10), tokenPhase({ phase: "Revoked", expires: 1 }, 10)], ["Open", "Expired", "Open", "Revoked"]);
  is("shares", [shareOf(1, 3, 4), shareOf(undefined, 1800.6, 4), shareOf(undefined, undefined, 4)].map((s) => [s.text, s.requested]), [["25%", false], ["over 100%", true], ["–", false]]);
  is("path", [match("/clusters/:name", "/clusters/a"), match("/clusters/:name", "/clusters"), match("/", "/")], [{ name: "a" }, undefined, {}]);
  is("labels", read("a=b, c=\nd.io/e=f"), { labels: { a: "b", c: "", "d.io/e": "f" } });
  is("bad label", Boolean(read("a").problem && read("-a=b").problem && read("a=b c!=d").problem), true);
  is("change of labels", change({ a: "1", b: "2", c: "3" }, { a: "1", b: "9", d: "4" }), { c: null, b: "9", d: "4" });
  is("configs", configsFor([{ group: "g", resource: "r", name: "keep" }, { group: "fleet.drover.io", resource: "addonversions", name: "old" }], "new"), [{ group: "g", resource: "r", name: "keep" }, { group: "fleet.drover.io", resource: "addonversions", name: "new" }]);
  is("audit", ask("user:jane verb:delete since:1h", 7200_000).params.toString(), "user=jane&verb=delete&since=1970-01-01T01%3A00%3A00Z");
  is("audit, wrong", Boolean(ask("colour:red", 0).problem && ask("since:never", 0).problem), true);
  is("fields", fieldsOf({ a: { b: [1, { "x/y": null }] }, c: {} }), [{ path: "a.b[0]", value: "1" }, { path: 'a.b[1]["x/y"]', value: "null" }, { path: "c", value: "{}" }]);
  is("news", news([["a", "Offline"], ["b", "Online"], ["c", "Online"], ["d", "Online"]]), "a is Offline, b is Online, c is Online, and 1 more cluster changed.");
  is("best match first", score("shop-1", "shop-1") > score("shop-10", "shop-1") && score("eu-shop", "shop") > score("workshop", "shop") && score("s-h-o-p", "shop") > 0 && score("abc", "shop") === 0, true);
  is("unknown comes last", sorted(ROWS, [{ key: "cpu", label: "", cell: () => null, sort: (r) => r.cpu }], "-cpu").map((r) => r.name), ["shop-1", "Edge box", "shop-2"]);

  is("yaml", yaml({ a: "true", b: [{ c: 1, d: "x: y" }, "z"], e: "two\nlines\n", f: {}, g: [] }), 'a: "true"\nb:\n- c: 1\n  d: "x: y"\n- z\ne: |\n  two\n  lines\nf: {}\ng: []');
  is("secrets are hidden", documents([{ apiVersion: "v1", kind: "Secret", data: { a: "aHVudGVyMg==" }, stringData: { b: "hunter2" } }]).includes("unter"), false);

  const t = new Table<Row>((r) => r.name, (c, raw) => (Array.isArray(raw) ? decode(c, raw) : raw) as Row);
  t.columns = ["phase", "name"];
  t.replace([["Online", "a"], ["Online", "b"]]);
  const b = t.rows.get("b");
  t.change([["Offline", "b"], ["Online", "c"]], ["a", "never"]);
  is("a table", [...t.rows].map(([k, s]) => k + " " + s.peek().phase), ["b Offline", "c Online"]);
  is("a row keeps its signal", t.rows.get("b") === b, true);
  t.replace([["Online", "c"]]);
  is("a list replaces", [...t.rows.keys()], ["c"]);
  t.refuse("failed", "away");
  is("what is known stays", [t.rows.size, t.state.peek()], [1, "ready"]);
  t.refuse("forbidden", "no");
  is("what may not be seen goes", [t.rows.size, t.state.peek()], [0, "forbidden"]);
  is("keys of objects", [objectKey({ metadata: { name: "a", namespace: "n" } }), objectKey({ metadata: { name: "a" } })], ["n/a", "a"]);
  return wrong;
}
