// Dialogs on the element of the browser, which keeps the keyboard inside, closes on
// Escape and makes the rest inert. Focus returns to where it was.

import type { ComponentChildren } from "preact";
import { useEffect, useId, useRef, useState } from "preact/hooks";
import { say } from "../client";
import { Action } from "./button";
import { Icon } from "./icon";
import { Glyph } from "./status";

type Props = {
  title: ComponentChildren; onClose: () => void; children: ComponentChildren; kind?: string;
  /** held dialogs close by their own buttons only: what they show is shown once. */
  held?: boolean;
};

export function Dialog({ title, onClose, children, kind = "", held }: Props) {
  const ref = useRef<HTMLDialogElement>(null);
  const id = useId();
  useEffect(() => {
    const d = ref.current!;
    const from = document.activeElement as HTMLElement | null;
    d.showModal();
    const first = d.querySelector<HTMLElement>("[data-first]");
    first?.focus();
    return () => {
      if (d.open) d.close();
      if (from?.isConnected && from !== document.body) from.focus();
      else document.getElementById("main")?.focus({ preventScroll: true });
    };
  }, []);
  return (
    <dialog ref={ref} class={"box " + kind} aria-labelledby={id}
      onCancel={(e) => { e.preventDefault(); if (!held) onClose(); }}
      onKeyDown={(e) => { if (held && e.key === "Escape") e.preventDefault(); }}
      onMouseDown={(e) => { if (!held && e.target === ref.current) onClose(); }}>
      <header>
        <h2 id={id}>{title}</h2>
        {!held && <button class="btn plain icon" aria-label="Close" onClick={onClose}><Icon name="close" /></button>}
      </header>
      {children}
    </dialog>
  );
}

/** Note stands out by a hue and its shape. */
export function Note({ hue, children }: { hue: "ok" | "busy" | "warn" | "bad" | "none"; children: ComponentChildren }) {
  return <div class={"note " + hue}><span class={"status " + hue}><Glyph hue={hue} /></span><div class="break">{children}</div></div>;
}

type FormProps = Props & { action: ComponentChildren; danger?: boolean; why?: string | undefined; submit: () => Promise<unknown>; keep?: boolean };

/** FormDialog asks and then does; what the hub refuses stays in the dialog with its words. */
export function FormDialog({ action, danger, why, submit, keep, children, ...rest }: FormProps) {
  const [busy, setBusy] = useState(false);
  const [wrong, setWrong] = useState("");
  const go = async (e: Event) => {
    e.preventDefault();
    if (busy || why !== undefined) return;
    setBusy(true);
    setWrong("");
    try {
      await submit();
      if (!keep) rest.onClose();
    } catch (err) {
      setWrong(say(err));
    } finally {
      setBusy(false);
    }
  };
  return (
    <Dialog {...rest}>
      <form onSubmit={go} noValidate>
        {children}
        {wrong && <div role="alert"><Note hue="bad">{wrong}</Note></div>}
        <footer>
          <button type="button" class="btn" onClick={rest.onClose}>Cancel</button>
          <Action type="submit" kind={"first" + (danger ? " danger" : "")} why={why} busy={busy}>{action}</Action>
        </footer>
      </form>
    </Dialog>
  );
}

type ConfirmProps = { title: string; name: string; what: string; action: string; children: ComponentChildren; onClose: () => void; submit: () => Promise<unknown> };

/** ConfirmName is before what cannot be undone: the name is typed. */
export function ConfirmName({ title, name, what, action, children, onClose, submit }: ConfirmProps) {
  const [typed, setTyped] = useState("");
  const id = useId();
  return (
    <FormDialog title={title} onClose={onClose} submit={submit} action={action} danger
      why={typed.trim() === name ? undefined : `Type ${name} first.`}>
      <div class="stack">{children}</div>
      <div class="field">
        <label for={id}>Type <code class="strong">{name}</code>, the name of the {what}, to go on</label>
        <input id={id} class="input mono" data-first autocomplete="off" autocapitalize="off" spellcheck={false} value={typed} onInput={(e) => setTyped(e.currentTarget.value)} />
      </div>
    </FormDialog>
  );
}
