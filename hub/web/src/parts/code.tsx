// Text to copy: commands, digests, secrets.

import { useEffect, useState } from "preact/hooks";
import { Icon } from "./icon";

export function Copy({ text, label = "Copy", tiny = true }: { text: string; label?: string; tiny?: boolean }) {
  const [done, setDone] = useState<"" | "copied" | "failed">("");
  useEffect(() => {
    if (!done) return;
    const t = setTimeout(() => setDone(""), 2000);
    return () => clearTimeout(t);
  }, [done]);
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(text);
      setDone("copied");
    } catch {
      setDone("failed");
    }
  };
  const said = done === "copied" ? "Copied" : done === "failed" ? "Select it and copy by hand" : label;
  return (
    <button type="button" class={"btn copy " + (tiny ? "tiny icon plain" : "tiny")} onClick={copy} aria-label={said} title={said}>
      <Icon name={done === "copied" ? "check" : "copy"} size={14} />{!tiny && said}
      <span class="sr" role="status">{done ? said : ""}</span>
    </button>
  );
}

export function Code({ text, wrap, label }: { text: string; wrap?: boolean; label?: string }) {
  return (
    <div class="code">
      <pre class={wrap ? "wrap" : ""} tabIndex={0} aria-label={label}>{text}</pre>
      <Copy text={text} label={label ? "Copy " + label : "Copy"} />
    </div>
  );
}
