// A hub without clusters: three steps, which tick themselves off.

import "../common";
import type { ComponentChildren } from "preact";
import { tables, useTable } from "../rows";
import { Icon } from "./icon";
import { tokenPhase } from "../words";
import { Code } from "./code";
import { hubTime, Status } from "./status";

type StepProps = { n: number; state: "done" | "now" | "later"; title: string; children?: ComponentChildren };

function Step({ n, state, title, children }: StepProps) {
  return (
    <li class={state} aria-current={state === "now" ? "step" : undefined}>
      <span class="tick" aria-hidden="true">{state === "done" ? <Icon name="check" /> : n}</span>
      <div class="what">
        <h2 class={state === "later" ? "later" : ""}>{title}{state === "done" && <span class="sr"> (done)</span>}</h2>
        {children}
      </div>
    </li>
  );
}

export function FirstRun() {
  useTable("tokens");
  const tokens = tables.tokens.table.list(), requests = tables.requests.table.list();
  const open = tokens.find((t) => tokenPhase(t, hubTime()) === "Open");
  const asked = requests.find((r) => r.phase === "Pending") ?? requests.find((r) => r.phase === "Approved" || r.phase === "Joined");
  const token = Boolean(open || asked), request = Boolean(asked);
  return (
    <div class="stack">
      <p class="dim">No cluster is managed yet. Three steps make the first one; each ticks itself off here.</p>
      <ol class="steps">
        <Step n={1} state={token ? "done" : "now"} title="Create a join token">
          {token ? <p class="dim">{open ? <>Token <code>{open.name}</code> is open{open.cluster && <> for cluster <b>{open.cluster}</b></>}.</> : "It was used."}</p>
            : <><p class="dim">A token is the permission to ask. It can be used once and is worth nothing without your approval.</p><a class="btn first" href="/tokens?new=1"><Icon name="key" />Create a join token</a></>}
        </Step>
        <Step n={2} state={request ? "done" : token ? "now" : "later"} title="Run the agent where the cluster is">
          {request ? <p class="dim">The agent of <b>{asked!.cluster}</b> asked from {asked!.address || "an unknown address"}.</p>
            : token ? <><p class="dim">With the token that was shown. This page sees the agent as soon as it asks.</p><Code text="drover-agent join --token-file token" label="the command" /><a href="/tokens?new=1">The token is lost? Create another.</a></> : null}
        </Step>
        <Step n={3} state={request && asked!.phase !== "Pending" ? "done" : request ? "now" : "later"} title="Compare the fingerprint, and approve">
          {request && asked!.phase === "Pending" && <><p class="dim">The agent prints the fingerprint of its key. If it is the one that the hub saw, nobody stands between.</p><a class="btn first" href={"/requests?approve=" + encodeURIComponent(asked!.name)}>Compare and approve {asked!.cluster}</a></>}
          {request && asked!.phase !== "Pending" && <Status word={asked!.phase} />}
        </Step>
      </ol>
    </div>
  );
}
