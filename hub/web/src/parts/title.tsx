// The head of a page, and the title of the tab.

import type { ComponentChildren } from "preact";
import { useEffect } from "preact/hooks";

export function useTitle(title: string): void {
  useEffect(() => { document.title = title + " · Drover"; }, [title]);
}

type Props = { title: string; beside?: ComponentChildren; crumbs?: [label: string, path: string][]; actions?: ComponentChildren; lead?: ComponentChildren; tab?: string };

export function Head({ title, beside, crumbs, actions, lead, tab }: Props) {
  useTitle(tab ?? title);
  return (
    <div class="head">
      {crumbs && <nav class="crumbs" aria-label="Above this page">{crumbs.map(([label, path]) => <span key={path} class="row"><a href={path}>{label}</a><span aria-hidden="true">/</span></span>)}</nav>}
      <h1>{title}{beside && <span class="dim">{beside}</span>}</h1>
      {actions && <div class="actions">{actions}</div>}
      {lead && <p class="lead">{lead}</p>}
    </div>
  );
}
