// Nothing here yet, nothing that fits, not allowed, not reached: four different
// screens, because they mean four different things to do.

import type { ComponentChildren } from "preact";
import type { State } from "../store";
import { Icon } from "./icon";

export function Empty({ title, icon = "find", children, actions }: { title: string; icon?: string; children?: ComponentChildren; actions?: ComponentChildren }) {
  return (
    <div class="empty">
      <span class="mark"><Icon name={icon} size={28} /></span>
      <h2>{title}</h2>
      {children && <p>{children}</p>}
      {actions && <div class="row">{actions}</div>}
    </div>
  );
}

export function Loading({ what, lines = 7 }: { what: string; lines?: number }) {
  return (
    <div class="skeleton" role="status" aria-busy="true" aria-label={"Loading " + what}>
      {Array.from({ length: lines }, (_, i) => <i key={i} />)}
    </div>
  );
}

export function Forbidden({ what, message }: { what: string; message?: string }) {
  return (
    <Empty title={`You may not see ${what}`} icon="key" actions={<a class="btn" href="/access">What may I do?</a>}>
      {message || "Ask an administrator for a role that allows it."}
    </Empty>
  );
}

export function Failed({ what, message }: { what: string; message: string }) {
  return <Empty title={`Could not load ${what}`} icon="alert">{message.replace(/\.?$/, ".")} The page tries again by itself.</Empty>;
}

type Source = { state: { value: State }; message: { value: string } };

/** Guard shows children only when there is something to show. */
export function Guard({ of, what, children }: { of: Source; what: string; children: () => ComponentChildren }) {
  switch (of.state.value) {
    case "loading": return <Loading what={what} />;
    case "forbidden": return <Forbidden what={what} message={of.message.value} />;
    case "failed": return <Failed what={what} message={of.message.value} />;
    default: return <>{children()}</>;
  }
}
