// The dashboard begins here.

import "./common";
import { render } from "preact";
import { useEffect, useState } from "preact/hooks";
import { loggedOut, Refusal } from "./client";
import { startKeys } from "./keys";
import { live } from "./live";
import { Frame } from "./parts/frame";
import { Overlays, openPalette } from "./parts/overlays";
import { match, path, startRouter } from "./router";
import { routes } from "./routes";
import { NotFound, SignedOut, Unreached } from "./pages/screens";
import { loadWho, who } from "./session";

function View() {
  const at = path.value;
  for (const route of routes) {
    const params = match(route.pattern, at);
    if (!params) continue;
    const Page = route.page;
    return <Page key={route.pattern} params={params} />;
  }
  return <NotFound what="page" />;
}

type Start = "asking" | "here" | "unreached";

function App() {
  const [start, setStart] = useState<Start>("asking");
  useEffect(() => {
    const ask = () => loadWho().then(() => {
      setStart("here");
      live.start();
    }, (e) => {
      if (e instanceof Refusal && e.status === 401) location.replace("/login?returnTo=" + encodeURIComponent(location.pathname + location.search));
      else {
        setStart("unreached");
        setTimeout(ask, 3000);
      }
    });
    void ask();
  }, []);
  if (start === "unreached") return <main id="main"><Unreached /></main>;
  if (start === "asking" || !who.value) return null;
  if (loggedOut.value) return <main id="main"><SignedOut /></main>;
  return <><Frame><View /></Frame><Overlays /></>;
}

startRouter();
startKeys(openPalette);
render(<App />, document.getElementById("app")!);
