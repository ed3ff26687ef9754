// The way from what was wanted to what runs, one step a line, as `drover explain`
// has it.

import { useEffect, useState } from "preact/hooks";
import type { Evidence as Line, Explanation } from "../api";
import { get, Refusal, say } from "../client";
import { seconds } from "../format";
import { Note } from "./dialog";
import { Loading } from "./states";
import { Age, Status } from "./status";

const EVERY = 15_000;

/** stamp changes when the page knows that something did. */
export function Evidence({ cluster, name, stamp }: { cluster: string; name: string; stamp: string | undefined }) {
  const [lines, setLines] = useState<Line[] | undefined>();
  const [wrong, setWrong] = useState("");
  useEffect(() => {
    const aborter = new AbortController();
    const look = () => {
      if (document.hidden) return;
      get<Explanation>(`/v1/explain/${encodeURIComponent(cluster)}/${encodeURIComponent(name)}`, aborter.signal).then((e) => {
        setLines(e.lines);
        setWrong("");
      }, (e: unknown) => {
        if (!aborter.signal.aborted && !(e instanceof TypeError)) setWrong(e instanceof Refusal && e.status === 403 ? "You may not see why." : say(e));
      });
    };
    const first = setTimeout(look, lines ? 400 : 0);
    const timer = setInterval(look, EVERY);
    return () => {
      aborter.abort();
      clearTimeout(first);
      clearInterval(timer);
    };
  }, [cluster, name, stamp]);
  if (wrong) return <Note hue="none">{wrong}</Note>;
  if (!lines) return <Loading what="the evidence" lines={5} />;
  return (
    <ol class="evidence">
      {lines.map((l, i) => (
        <li key={i}>
          <Status word={l.state}><span class="sr">{l.state}</span></Status>
          <span class="dim">{l.stage}</span>
          <span class="text">{l.text}{l.hint && <span class="hint">To do: {l.hint}</span>}</span>
          <span class="faint">{seconds(l.time) > 0 && <Age at={l.time} />}</span>
        </li>
      ))}
    </ol>
  );
}
