// The kinds that the dashboard reads and changes by the Kubernetes-style API.

export type Resource = { group: string; version: string; plural: string; kind: string };

const r = (group: string, version: string, plural: string, kind: string): Resource => ({ group, version, plural, kind });

const OCM = "open-cluster-management.io";
const FLEET = "fleet.drover.io";

export const clusters = r("cluster." + OCM, "v1", "managedclusters", "ManagedCluster");
export const works = r("work." + OCM, "v1", "manifestworks", "ManifestWork");
export const addons = r("addon." + OCM, "v1beta1", "clustermanagementaddons", "ClusterManagementAddOn");
export const installed = r("addon." + OCM, "v1beta1", "managedclusteraddons", "ManagedClusterAddOn");
export const versions = r(FLEET, "v1alpha1", "addonversions", "AddOnVersion");
export const tokens = r(FLEET, "v1alpha1", "jointokens", "JoinToken");
export const requests = r(FLEET, "v1alpha1", "joinrequests", "JoinRequest");
export const identities = r(FLEET, "v1alpha1", "agentidentities", "AgentIdentity");
export const revisions = r(FLEET, "v1alpha1", "workrevisions", "WorkRevision");
export const metrics = r(FLEET, "v1alpha1", "clustermetrics", "ClusterMetrics");
export const sessions = r(FLEET, "v1alpha1", "sessions", "Session");

/** full is the resource's name as the store has it, such as "jointokens.fleet.drover.io". */
export const full = (k: Resource): string => k.plural + "." + k.group;

/** apiVersion as objects name it. */
export const apiVersion = (k: Resource): string => k.group + "/" + k.version;

/** at is the path of a list, or of one object. */
export function at(k: Resource, namespace = "", name = ""): string {
  const ns = namespace ? `/namespaces/${encodeURIComponent(namespace)}` : "";
  return `/apis/${k.group}/${k.version}${ns}/${k.plural}` + (name ? "/" + encodeURIComponent(name) : "");
}

export type Meta = {
  name: string; namespace?: string; uid?: string; resourceVersion?: string; generation?: number;
  labels?: Record<string, string>; annotations?: Record<string, string>;
  creationTimestamp?: string; deletionTimestamp?: string;
  managedFields?: { manager?: string; time?: string; subresource?: string }[];
};

export type Condition = { type: string; status: string; reason?: string; message?: string; lastTransitionTime?: string; observedGeneration?: number };

export type Obj<Spec = Record<string, unknown>, St = Record<string, unknown>> = {
  apiVersion?: string; kind?: string; metadata: Meta; spec: Spec; status?: St;
};

export const condition = (list: Condition[] | undefined, type: string): Condition | undefined => list?.find((c) => c.type === type);
