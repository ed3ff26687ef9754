// Who we are, and what we may do: pages ask before they offer a button, and a button
// that may not be used says why.

import { signal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { get, send } from "./client";
import { reloads } from "./live";
import type { Identity } from "./api";
import type { Resource } from "./resources";

export type Who = Identity;
export const who = signal<Who | undefined>(undefined);

export async function loadWho(): Promise<void> {
  who.value = await get<Who>("/v1/session");
}

export type Right = { verb: string; on: Resource; subresource?: string; namespace?: string; name?: string };
type Answer = { status: { allowed: boolean; reason?: string } };

const answers = signal<Record<string, boolean | undefined>>({});
const asked = new Set<string>();
let counted = 0;

const keyOf = (r: Right): string => [r.verb, r.on.group, r.on.plural, r.subresource ?? "", r.namespace ?? "", r.name ?? ""].join(" ");

async function ask(r: Right, key: string): Promise<void> {
  try {
    const a = await send<Answer>("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", {
      apiVersion: "authorization.k8s.io/v1", kind: "SelfSubjectAccessReview",
      spec: {
        resourceAttributes: {
          verb: r.verb, group: r.on.group, version: r.on.version, resource: r.on.plural,
          subresource: r.subresource ?? "", namespace: r.namespace ?? "", name: r.name ?? "",
        },
      },
    });
    answers.value = { ...answers.value, [key]: a.status.allowed };
  } catch {
    asked.delete(key); // asked again when somebody looks; the hub decides in any case
  }
}

/**
 * useWhyNot says why something may not be done, undefined when it may. Until the hub
 * has answered it may: the hub decides once more when it is done.
 */
export function useWhyNot(r: Right): string | undefined {
  const key = keyOf(r);
  const epoch = reloads.value;
  useEffect(() => {
    if (epoch !== counted) {
      counted = epoch;
      asked.clear();
    }
    if (asked.has(key)) return;
    asked.add(key);
    void ask(r, key);
  }, [key, epoch]);
  if (answers.value[key] !== false) return undefined;
  const what = r.on.plural + (r.subresource ? "/" + r.subresource : "");
  return `You may not ${r.verb} ${what}${r.name ? " " + r.name : ""}. Ask an administrator for a role that allows it.`;
}

/** logout ends the session and leaves to the login page. */
export async function logout(): Promise<void> {
  await send("DELETE", "/v1/session");
  location.assign("/login");
}
