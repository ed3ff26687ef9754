// Requests to the hub. All that change something carry the header that no other
// site can set.

import { signal } from "@preact/signals";

/** Refusal is the hub's answer when it does not do what was asked. */
export class Refusal extends Error {
  constructor(readonly status: number, readonly reason: string, message: string) {
    super(message);
  }
}

/** loggedOut is set when the hub no longer knows who we are. */
export const loggedOut = signal(false);

type Status = { kind?: string; message?: string; reason?: string };

/** check turns an answer that is no success into a Refusal. */
export async function check(answer: Response): Promise<Response> {
  if (answer.ok) return answer;
  if (answer.status === 401) loggedOut.value = true;
  let status: Status = {};
  try {
    status = (await answer.json()) as Status;
  } catch {
    // what stands in front of the hub answers in its own way
  }
  throw new Refusal(answer.status, status.reason ?? "", status.message ?? `The hub answered ${answer.status}, without saying why.`);
}

export async function get<T>(path: string, signal?: AbortSignal): Promise<T> {
  const answer = await fetch(path, { headers: { Accept: "application/json" }, credentials: "same-origin", signal: signal ?? null });
  return (await (await check(answer)).json()) as T;
}

export async function send<T>(method: "POST" | "PUT" | "PATCH" | "DELETE", path: string, body?: unknown, type = "application/json"): Promise<T> {
  const headers: Record<string, string> = { Accept: "application/json", "X-Drover-Request": "1" };
  if (body !== undefined) headers["Content-Type"] = type;
  const answer = await check(await fetch(path, {
    method, headers, credentials: "same-origin", body: body === undefined ? null : JSON.stringify(body),
  }));
  const text = await answer.text();
  return (text ? JSON.parse(text) : undefined) as T;
}

/** patch is a merge patch: null takes a field away. */
export const patch = <T>(path: string, change: unknown): Promise<T> => send<T>("PATCH", path, change, "application/merge-patch+json");

/** say is what people read of an error. */
export function say(e: unknown): string {
  if (e instanceof Refusal) return e.message;
  if (e instanceof TypeError) return "The hub cannot be reached.";
  return e instanceof Error ? e.message : String(e);
}
