// How figures and times are written. Pure; the same words as the command line.

/** seconds of a time, which is either that already or a timestamp; 0 for none. */
export function seconds(t: unknown): number {
  if (typeof t === "number") return t > 1e11 ? t / 1000 : t;
  if (typeof t !== "string" || t === "") return 0;
  const n = Date.parse(t);
  return Number.isNaN(n) || n <= 0 ? 0 : n / 1000;
}

/** duration is kubectl's: "45s", "3m20s", "5h12m", "3d4h", "98d". */
export function duration(s: number): string {
  s = Math.floor(s);
  if (s < -1) return "<invalid>";
  if (s < 0) return "0s";
  const two = (a: number, ua: string, b: number, ub: string) => (b === 0 ? `${a}${ua}` : `${a}${ua}${b}${ub}`);
  if (s < 120) return `${s}s`;
  const m = Math.floor(s / 60);
  if (m < 10) return two(m, "m", s % 60, "s");
  if (m < 180) return `${m}m`;
  const h = Math.floor(m / 60);
  if (h < 8) return two(h, "h", m % 60, "m");
  if (h < 48) return `${h}h`;
  const d = Math.floor(h / 24);
  if (h < 192) return two(d, "d", h % 24, "h");
  if (d < 730) return `${d}d`;
  const y = Math.floor(d / 365);
  return d < 2920 ? two(y, "y", d % 365, "d") : `${y}y`;
}

/** exact is a time to the second, in the reader's zone and with its name. */
export function exact(t: number): string {
  return new Date(t * 1000).toLocaleString(undefined, {
    year: "numeric", month: "short", day: "numeric", hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23", timeZoneName: "short",
  });
}

/** clockTime is the time of day of something recent. */
export const clockTime = (t: number): string => new Date(t * 1000).toLocaleTimeString(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });

const general = (v: number): string => String(Number(v.toPrecision(4)));

/** bytes as `drover top` writes them. */
export function bytes(v: number): string {
  for (const unit of ["B", "KiB", "MiB", "GiB"]) {
    if (Math.abs(v) < 1024) return `${general(v)} ${unit}`;
    v /= 1024;
  }
  return `${general(v)} TiB`;
}

/** rate of bytes a second. */
export const rate = (v: number): string => bytes(Math.round(v)) + "/s";

export const cores = (v: number): string => v.toFixed(2);

export const count = (n: number): string => n.toLocaleString("en-US");

export const plural = (n: number, one: string, many = one + "s"): string => (n === 1 ? "1 " + one : `${count(n)} ${many}`);

const UNITS: Record<string, number> = {
  "": 1, n: 1e-9, u: 1e-6, m: 1e-3, k: 1e3, M: 1e6, G: 1e9, T: 1e12, P: 1e15, E: 1e18,
  Ki: 2 ** 10, Mi: 2 ** 20, Gi: 2 ** 30, Ti: 2 ** 40, Pi: 2 ** 50, Ei: 2 ** 60,
};

/** quantity reads a Kubernetes quantity; undefined when it is none. */
export function quantity(q: unknown): number | undefined {
  if (typeof q === "number") return q;
  if (typeof q !== "string") return undefined;
  const m = /^([+-]?[0-9.]+)([eE][+-]?\d+|[numkMGTPE]i?|Ki)?$/.exec(q);
  if (!m) return undefined;
  const n = Number(m[1]), unit = m[2] ?? "";
  if (Number.isNaN(n)) return undefined;
  if (/^[eE][+-]?\d/.test(unit)) return n * Number("1" + unit);
  const factor = UNITS[unit];
  return factor === undefined ? undefined : n * factor;
}

/** short is enough of a digest to compare by eye, as `drover explain` has it. */
export const short = (digest: string | undefined): string => (digest ? digest.replace(/^sha256:/, "").slice(0, 12) : "none");

/** plainJSON is JSON as Go writes it, without its escapes of what is harmless here. */
export const plainJSON = (v: string): string => v.replace(/\\u003c/g, "<").replace(/\\u003e/g, ">").replace(/\\u0026/g, "&");

/** groups splits a fingerprint into eight groups, for reading aloud. */
export function groups(fingerprint: string): string[] {
  const size = Math.ceil(fingerprint.length / 8) || 1;
  return fingerprint.match(new RegExp(`.{1,${size}}`, "g")) ?? [];
}

/** hexOnly is what somebody pasted, without separators and in lower case. */
export const hexOnly = (text: string): string => text.toLowerCase().replace(/^sha256:/, "").replace(/[^0-9a-f]/g, "");

/** compare orders versions as semantic versions, and anything else as text. */
export function compareVersions(a: string, b: string): number {
  const parse = (v: string) => {
    const [core = "", pre = ""] = v.replace(/^v/, "").split(/\+/)[0]!.split(/-(.*)/s);
    return { core: core.split(".").map(Number), pre };
  };
  const x = parse(a), y = parse(b);
  if (x.core.some(Number.isNaN) || y.core.some(Number.isNaN)) return a < b ? -1 : a > b ? 1 : 0;
  for (let i = 0; i < 3; i++) {
    const d = (x.core[i] ?? 0) - (y.core[i] ?? 0);
    if (d) return d;
  }
  if (x.pre === y.pre) return 0;
  if (x.pre === "") return 1;
  if (y.pre === "") return -1;
  return x.pre.localeCompare(y.pre, "en", { numeric: true });
}

/** natural orders names so that shop-2 comes before shop-10. */
export const natural = new Intl.Collator("en", { numeric: true }).compare;
