// What the first page needs anyway. Every part that is fetched later names this file,
// so that the bundler keeps all of it in one piece instead of twenty.

import "./client";
import "./filter";
import "./format";
import "./keys";
import "./live";
import "./phases";
import "./resources";
import "./router";
import "./routes";
import "./rows";
import "./scheme";
import "./session";
import "./store";
import "./words";
import "./parts/button";
import "./parts/frame";
import "./parts/hover";
import "./parts/icon";
import "./parts/lazy";
import "./parts/meter";
import "./parts/overlays";
import "./parts/search";
import "./parts/states";
import "./parts/status";
import "./parts/title";
import "./parts/toast";
import "./pages/fleet";
import "./pages/screens";
