// Figures that people would rather look at than read.

/** Mini is a share in a table cell: a bar and the figure. */
export function Mini({ percent }: { percent: number | null | undefined }) {
  if (percent === null || percent === undefined) return <span class="faint">–</span>;
  return <span><span class={"mini" + heat(percent)} aria-hidden="true"><i style={{ "--part": percent + "%" }} /></span>{Math.round(percent)}%</span>;
}

const heat = (p: number): string => (p >= 95 ? " bad" : p >= 85 ? " warn" : "");

type MeterProps = { label: string; used: number | undefined; asked?: number | undefined; total: number | undefined; text: (v: number) => string };

/** shareOf is the figure of a meter: what is used, else what is requested, which can be more than there is. */
export function shareOf(used: number | undefined, asked: number | undefined, total: number): { percent: number; text: string; requested: boolean } {
  const requested = used === undefined && asked !== undefined;
  const percent = (100 * (used ?? asked ?? 0)) / total;
  const known = used !== undefined || requested;
  return { percent, requested, text: !known ? "–" : percent > 100 ? "over 100%" : Math.round(percent) + "%" };
}

/** Meter shows what is used, and hatched behind it what was asked for, of a total. */
export function Meter({ label, used, asked, total, text }: MeterProps) {
  if (!total) return <div class="meter"><span class="dim">{label}</span><span class="faint">not known</span></div>;
  const part = (v: number) => Math.min(100, (100 * v) / total) + "%";
  const share = shareOf(used, asked, total);
  const words = [
    used !== undefined ? `${text(used)} used` : "",
    asked !== undefined ? `${text(asked)} requested` : "",
  ].filter(Boolean).join(", ");
  return (
    <div class="meter">
      <span class="dim">{label}</span>
      <span><b class="strong">{share.text}</b> <span class="dim">{share.requested && "requested "}of {text(total)}</span></span>
      <span class={"bar" + (share.requested ? "" : heat(share.percent))} role="img" aria-label={`${label}: ${words || "not known"} of ${text(total)}`} title={words}>
        {asked !== undefined && <i class="asked" style={{ "--part": part(asked) }} />}
        {used !== undefined && <i style={{ "--part": part(used) }} />}
      </span>
    </div>
  );
}

/** Spark is a line without axes. */
export function Spark({ values, max, label }: { values: (number | null)[]; max?: number; label: string }) {
  const known = values.filter((v): v is number => v !== null);
  if (known.length < 2) return <span class="faint">no samples yet</span>;
  const top = Math.max(max ?? 0, ...known) || 1;
  // A gap ends a piece of the line, and of what is filled below it.
  const pieces: string[][] = [[]];
  values.forEach((v, i) => {
    if (v === null) {
      if (pieces.at(-1)!.length) pieces.push([]);
    } else pieces.at(-1)!.push(`${((100 * i) / (values.length - 1)).toFixed(1)} ${(23 - (22 * v) / top).toFixed(1)}`);
  });
  const drawn = pieces.filter((p) => p.length > 1);
  const x = (point: string) => point.split(" ")[0];
  return (
    <svg class="spark" viewBox="0 0 100 24" preserveAspectRatio="none" role="img" aria-label={label}>
      <path class="fill" d={drawn.map((p) => `M${p.join("L")}L${x(p.at(-1)!)} 24L${x(p[0]!)} 24Z`).join("")} />
      <path d={drawn.map((p) => "M" + p.join("L")).join("")} />
    </svg>
  );
}

/** Share is how many of each, as one thin bar. */
export function Share({ parts, label }: { parts: { hue: string; n: number }[]; label: string }) {
  return <div class="share" role="img" aria-label={label}>{parts.filter((p) => p.n > 0).map((p, i) => <i key={i} class={p.hue} style={{ "--part": String(p.n) }} />)}</div>;
}
