// The box for the filter language. What is typed is in the address at once.

import { useEffect, useRef, useState } from "preact/hooks";
import { useKeys } from "../keys";
import { query, setQuery } from "../router";
import { Icon } from "./icon";

type Props = { label: string; hint: string; param?: string; problem?: string | undefined; suggest?: string[] };

export function Search({ label, hint, param = "q", problem, suggest = [] }: Props) {
  const text = query(param);
  const [draft, setDraft] = useState(text);
  const ref = useRef<HTMLInputElement>(null);
  useEffect(() => setDraft(text), [text]);
  useKeys([{ keys: "/", label: "Filter", group: "Lists", run: () => { ref.current?.focus(); ref.current?.select(); } }]);
  const change = (value: string) => {
    setDraft(value);
    setQuery({ [param]: value });
  };
  return (
    <search class="searchbox">
      <Icon name="find" size={15} />
      <input ref={ref} class="input" type="search" aria-label={label} placeholder={hint} value={draft} list={suggest.length ? "suggest-" + param : undefined}
        autocomplete="off" autocapitalize="off" spellcheck={false} enterkeyhint="search"
        aria-invalid={problem ? "true" : undefined} aria-describedby={problem ? "wrong-" + param : undefined}
        onInput={(e) => change(e.currentTarget.value)}
        onKeyDown={(e) => {
          if (e.key !== "Escape") return;
          if (draft) change("");
          else ref.current?.blur();
        }} />
      {suggest.length > 0 && <datalist id={"suggest-" + param}>{suggest.map((s) => <option key={s} value={s} />)}</datalist>}
      <span class="end">
        {draft ? <button class="btn plain tiny icon" aria-label="Clear the filter" onClick={() => { change(""); ref.current?.focus(); }}><Icon name="close" size={14} /></button> : <kbd aria-hidden="true">/</kbd>}
      </span>
      {problem && <p class="small" role="status" id={"wrong-" + param}><span class="minus">{problem}</span></p>}
    </search>
  );
}
