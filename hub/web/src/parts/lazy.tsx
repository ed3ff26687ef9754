// Parts and pages that are fetched when they are first needed, with the rest of the
// styles, so that the first page is there quickly.

import type { ComponentType } from "preact";
import { useEffect, useState } from "preact/hooks";
import { Unreached } from "../pages/screens";
import { Loading } from "./states";

let styles: Promise<void> | undefined;

/** restOfStyles are those that the first page does without. */
function restOfStyles(): Promise<void> {
  styles ??= new Promise((resolve, reject) => {
    const link = document.createElement("link");
    link.rel = "stylesheet";
    link.href = document.querySelector<HTMLMetaElement>('meta[name="later"]')!.content;
    link.onload = () => resolve();
    link.onerror = () => {
      styles = undefined;
      link.remove();
      reject(new TypeError("the styles could not be fetched"));
    };
    document.head.append(link);
  });
  return styles;
}

type Options = { quiet?: boolean };

/** lazy is a component that fetches itself. A quiet one shows nothing meanwhile. */
export function lazy<P extends object>(load: () => Promise<ComponentType<P>>, { quiet }: Options = {}): ComponentType<P> {
  let ready: ComponentType<P> | undefined;
  return function Lazy(props: P) {
    const [, again] = useState(0);
    const [failed, setFailed] = useState(false);
    useEffect(() => {
      if (ready) return;
      let gone = false;
      Promise.all([load(), restOfStyles()]).then(([c]) => {
        ready = c;
        if (!gone) again((n) => n + 1);
      }, () => {
        if (!gone) setFailed(true);
      });
      return () => { gone = true; };
    }, []);
    if (failed) return quiet ? null : <Unreached page />;
    if (!ready) return quiet ? null : <Loading what="the page" />;
    const C = ready;
    return <C {...props} />;
  };
}
