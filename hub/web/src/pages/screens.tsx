// Pages that stand for another: not found, logged out, not reached.

import { useTitle } from "../parts/title";
import { Action } from "../parts/button";

export function NotFound({ what, name }: { what: string; name?: string }) {
  useTitle("Not found");
  return (
    <div class="screen">
      <h1>There is no {what} {name ? <code class="break">{name}</code> : "here"}</h1>
      <p class="dim">It may have been removed, or the address is mistyped.</p>
      <div class="row"><a class="btn" href="/">To the fleet</a></div>
    </div>
  );
}

export function SignedOut() {
  useTitle("Logged out");
  return (
    <div class="screen">
      <h1>You are logged out</h1>
      <p class="dim">The session ended, or somebody ended it. Nothing was lost: after the login you are back on this page.</p>
      <div class="row"><a class="btn first" data-plain href={"/login?returnTo=" + encodeURIComponent(location.pathname + location.search)}>Log in</a></div>
    </div>
  );
}

export function Unreached({ page }: { page?: boolean }) {
  useTitle("Not reached");
  return (
    <div class="screen" role="alert">
      <h1>{page ? "This page could not be loaded" : "The hub cannot be reached"}</h1>
      <p class="dim">{page ? "The hub was updated meanwhile, or cannot be reached." : "It may be restarting. This page tries every few seconds by itself."}</p>
      <Action run={() => location.reload()}>Load again</Action>
    </div>
  );
}
