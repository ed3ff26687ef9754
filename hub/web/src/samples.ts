// The samples of a cluster as columns: times, and a value or none for each.

import type { Samples as Answer } from "./api";
import { get } from "./client";

export type Column = (number | null)[];
export type Samples = { time: number[]; columns: Record<string, Column>; cpu: Column; memory: Column };

const percent = (used: Column | undefined, total: Column | undefined): Column =>
  (used ?? []).map((v, i) => {
    const t = total?.[i];
    return v === null || !t ? null : (100 * v) / t;
  });

const known = (c: Column): boolean => c.some((v) => v !== null);

/** first of the columns of which anything is known. */
export const first = (...list: Column[]): Column => list.find(known) ?? [];

export function read(a: Answer): Samples {
  const columns: Record<string, Column> = {};
  a.names.forEach((n, i) => { columns[n] = a.columns[i] ?? []; });
  const c = columns;
  return {
    time: (a.columns[0] ?? []) as number[], columns,
    cpu: first(percent(c.kubernetesCPU, c.allocatableCPU), percent(c.requestsCPU, c.allocatableCPU), percent(c.cpu, c.cores)),
    memory: first(percent(c.kubernetesMemory, c.allocatableMemory), percent(c.requestsMemory, c.allocatableMemory), percent(c.memoryUsed, c.memoryTotal)),
  };
}

export async function loadSamples(cluster: string, signal?: AbortSignal): Promise<Samples> {
  return read(await get<Answer>("/v1/samples/" + encodeURIComponent(cluster), signal));
}
