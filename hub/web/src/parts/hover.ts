// Which cluster the card is about, and the cell that it stands beside.

import { signal } from "@preact/signals";

export const hovered = signal<{ name: string; cell: Element } | null>(null);

/** hover shows the card of a cluster beside a cell, or none. */
export const hover = (name: string, cell: Element | null): void => { hovered.value = cell ? { name, cell } : null; };
