// All pages. One line here, and one in NAV for those that are places to go.

import type { ComponentType } from "preact";
import { Fleet } from "./pages/fleet";
import { lazy } from "./parts/lazy";

export type Params = Record<string, string>;
export type Page = ComponentType<{ params: Params }>;
export type Route = { pattern: string; page: Page };

const page = (load: () => Promise<Page>): Page => lazy<{ params: Params }>(load);
const cluster = page(() => import("./pages/cluster").then((m) => m.Cluster));

export const routes: Route[] = [
  { pattern: "/", page: Fleet },
  { pattern: "/requests", page: page(() => import("./pages/requests").then((m) => m.Requests)) },
  { pattern: "/tokens", page: page(() => import("./pages/tokens").then((m) => m.Tokens)) },
  { pattern: "/clusters/:name", page: cluster },
  { pattern: "/clusters/:name/:tab", page: cluster },
  { pattern: "/clusters/:name/works/:work", page: page(() => import("./pages/work").then((m) => m.Work)) },
  { pattern: "/addons", page: page(() => import("./pages/addons").then((m) => m.Addons)) },
  { pattern: "/addons/:name", page: page(() => import("./pages/addon").then((m) => m.Addon)) },
  { pattern: "/addons/:name/versions/:version", page: page(() => import("./pages/version").then((m) => m.Version)) },
  { pattern: "/trail", page: page(() => import("./pages/audit").then((m) => m.Audit)) },
  { pattern: "/hub", page: page(() => import("./pages/hub").then((m) => m.Hub)) },
  { pattern: "/access", page: page(() => import("./pages/access").then((m) => m.Access)) },
];

/** Place is somewhere to go; go is the second key after "g". */
export type Place = { path: string; label: string; icon: string; go: string; group: string; badge?: "pending" };

export const NAV: Place[] = [
  { path: "/", label: "Fleet", icon: "fleet", go: "f", group: "Clusters" },
  { path: "/requests", label: "Join requests", icon: "door", go: "r", group: "Clusters", badge: "pending" },
  { path: "/tokens", label: "Join tokens", icon: "key", go: "t", group: "Clusters" },
  { path: "/addons", label: "Addons", icon: "addon", go: "a", group: "Delivery" },
  { path: "/trail", label: "Audit", icon: "audit", go: "l", group: "Hub" },
  { path: "/hub", label: "Hub", icon: "hub", go: "h", group: "Hub" },
  { path: "/access", label: "Access", icon: "person", go: "m", group: "Hub" },
];

/** placeOf is the place that a path belongs to. */
export const placeOf = (path: string): Place | undefined =>
  path === "/" || path.startsWith("/clusters/") ? NAV[0] : NAV.find((p) => p.path !== "/" && (path === p.path || path.startsWith(p.path + "/")));
