// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

// Package live holds what the hub says to a dashboard beside the objects of its
// API: small tables that it makes of them, and one stream of changes a tab.
//
//	GET /v1/table/NAME   a Table as it is now
//	GET /v1/live         Frames, one a line of JSON, until somebody ends it
//
// The parameters of /v1/live say what it is about, each any number of times:
//
//	table=NAME                                a table
//	list=RESOURCE, list=RESOURCE/NAMESPACE    objects of the API, such as
//	                                          list=manifestworks.work.open-cluster-management.io/shop-1
//	object=RESOURCE/NAME, object=RESOURCE/NAMESPACE/NAME
//	since=REVISION                            only what changed after that; without it,
//	                                          first everything there is
//
// Each is filtered as LIST and WATCH of the API are.
package live

import (
	"encoding/json"
	"time"
)

// Paths of the hub.
const (
	PathLive    = "/v1/live"
	PathTable   = "/v1/table"
	PathHub     = "/v1/hub"
	PathSamples = "/v1/samples"
)

// Intervals of the stream.
const (
	// FrameEvery is the shortest time between two frames: what changes several times
	// meanwhile is sent once, as it is then.
	FrameEvery = 250 * time.Millisecond
	// BeatEvery is the longest time without one.
	BeatEvery = 10 * time.Second
)

// Frame is one line of the stream. A subscription is called by the table's name,
// or as it was written in the request: "list=…", "object=…". All changes up to Rev
// are in this frame and those before it.
type Frame struct {
	Rev uint64 `json:"rev,omitempty"`
	// Columns of a table come before its first rows.
	Columns map[string][]string `json:"columns,omitempty"`
	// Put are rows of tables as arrays in the order of the columns, and objects,
	// that are new or have changed.
	Put map[string][]json.RawMessage `json:"put,omitempty"`
	// Del are the keys of those that are gone, or may no longer be seen: the key of a
	// table's row is its name, with the namespace or cluster before it where there is
	// one ("shop-1/web"); that of an object likewise.
	Del map[string][]string `json:"del,omitempty"`
	// Forbidden says of subscriptions why nothing comes of them.
	Forbidden map[string]string `json:"forbidden,omitempty"`
	// Ready: everything there was at the start has been sent.
	Ready bool `json:"ready,omitempty"`
	// Beat: nothing else to say; Time is the hub's.
	Beat bool       `json:"beat,omitempty"`
	Time *time.Time `json:"time,omitempty"`
	// Reset: the cursor is of no use any more, or what may be seen has changed:
	// begin without one. The stream ends.
	Reset bool `json:"reset,omitempty"`
	// End says why the stream ends for good: the login is over.
	End string `json:"end,omitempty"`
}

// Table is the answer of /v1/table/NAME.
type Table struct {
	Rev     uint64            `json:"rev"`
	Columns []string          `json:"columns"`
	Rows    []json.RawMessage `json:"rows"`
}

// Names of the tables.
const (
	TableClusters  = "clusters"
	TableRequests  = "requests"
	TableTokens    = "tokens"
	TableWorks     = "works"
	TableAddOns    = "addons"
	TableVersions  = "versions"
	TableInstalled = "installed"
	TableSessions  = "sessions"
	TableAccess    = "access"
)

// Seconds is a time as seconds since 1970, zero for none.
type Seconds int64

// At is t in seconds.
func At(t time.Time) Seconds {
	if t.IsZero() {
		return 0
	}
	return Seconds(t.Unix())
}

// ClusterRow is a row of the table clusters. Counts are null for who may not see
// what is counted. There are many of these, and what differs from one to the next
// does not compress: so they hold what a list shows, and the object the rest.
type ClusterRow struct {
	Name       string  `json:"name"`
	Phase      string  `json:"phase"`
	Reason     string  `json:"reason"`
	Since      Seconds `json:"since"`      // of phases other than Online
	Kubernetes string  `json:"kubernetes"` // version
	Agent      string  `json:"agent"`      // version
	Nodes      int32   `json:"nodes"`
	NodesReady int32   `json:"nodesReady"`
	// CPU and Memory are per cent in steps of five, null when nothing is known.
	CPU           *int              `json:"cpu"`
	Memory        *int              `json:"memory"`
	Works         *int              `json:"works"`
	WorkProblems  *int              `json:"problems"` // works that need somebody
	AddOns        *int              `json:"addons"`
	AddOnProblems *int              `json:"addonProblems"`
	Set           string            `json:"set"`
	Labels        map[string]string `json:"labels"`
}

// RequestRow is a row of the table requests.
type RequestRow struct {
	Name        string            `json:"name"`
	Cluster     string            `json:"cluster"`
	Phase       string            `json:"phase"`
	Message     string            `json:"message"`
	Fingerprint string            `json:"fingerprint"`
	Token       string            `json:"token"`
	Address     string            `json:"address"`
	Labels      map[string]string `json:"labels"`
	Facts       Facts             `json:"facts"`
	Rejoin      bool              `json:"rejoin"`
	By          string            `json:"by"`     // who decided
	Reason      string            `json:"reason"` // of the decision
	Created     Seconds           `json:"created"`
}

// TokenRow is a row of the table tokens.
type TokenRow struct {
	Name        string            `json:"name"`
	Phase       string            `json:"phase"`
	Cluster     string            `json:"cluster"`
	Expires     Seconds           `json:"expires"`
	Uses        int32             `json:"uses"`
	Used        int               `json:"used"`
	AutoApprove bool              `json:"autoApprove"`
	Revoked     bool              `json:"revoked"`
	Labels      map[string]string `json:"labels"`
	Created     Seconds           `json:"created"`
}

// WorkRow is a row of the table works.
type WorkRow struct {
	Cluster    string  `json:"namespace"`
	Name       string  `json:"name"`
	Phase      string  `json:"phase"`
	Reason     string  `json:"reason"`
	Since      Seconds `json:"since"`
	Generation int64   `json:"generation"`
	Reported   int64   `json:"reported"` // generation that the phase speaks of
	Applied    string  `json:"applied"`  // digest
	Objects    int     `json:"objects"`
	Unhealthy  int     `json:"unhealthy"`
	Drifted    int     `json:"drifted"`
	Waiting    string  `json:"waiting"` // id of the removal that waits for a word
	AddOn      string  `json:"addon"`
	Deleting   bool    `json:"deleting"`
	Created    Seconds `json:"created"`
}

// AddOnRow is a row of the table addons.
type AddOnRow struct {
	Name        string  `json:"name"`
	Title       string  `json:"title"`
	Description string  `json:"description"`
	Default     string  `json:"default"` // version
	Versions    *int    `json:"versions"`
	Installed   *int    `json:"installed"`
	Healthy     *int    `json:"healthy"`
	Problems    *int    `json:"problems"`
	Strategy    string  `json:"strategy"`
	Created     Seconds `json:"created"`
}

// VersionRow is a row of the table versions.
type VersionRow struct {
	Name        string  `json:"name"`
	AddOn       string  `json:"addon"`
	Version     string  `json:"version"`
	Phase       string  `json:"phase"`
	Reason      string  `json:"reason"`
	Active      bool    `json:"active"`
	Default     bool    `json:"default"`
	Channel     string  `json:"channel"`
	Description string  `json:"description"`
	Manager     string  `json:"manager"`
	Clusters    int32   `json:"clusters"`
	Objects     int32   `json:"objects"`
	Size        int64   `json:"size"`
	Digest      string  `json:"digest"`
	SignedBy    string  `json:"signedBy"`
	Created     Seconds `json:"created"`
}

// InstalledRow is a row of the table installed: one addon on one cluster.
type InstalledRow struct {
	Cluster string  `json:"cluster"`
	Name    string  `json:"name"` // of the addon
	Version string  `json:"version"`
	Phase   string  `json:"phase"`
	Reason  string  `json:"reason"`
	Since   Seconds `json:"since"`
	Desired string  `json:"desired"` // digest of the manifests that should run
	Applied string  `json:"applied"` // of those that the cluster has
	Created Seconds `json:"created"`
}

// SessionRow is a row of the table sessions: a browser that is logged in.
type SessionRow struct {
	Name     string  `json:"name"`
	User     string  `json:"user"`
	Method   string  `json:"method"`
	Issuer   string  `json:"issuer"`
	Address  string  `json:"address"`
	Browser  string  `json:"browser"`
	LastSeen Seconds `json:"lastSeen"`
	Expires  Seconds `json:"expires"`
	Created  Seconds `json:"created"`
}

// AccessRow is a row of the table access: an access token.
type AccessRow struct {
	Name        string   `json:"name"`
	User        string   `json:"user"`
	Groups      []string `json:"groups"`
	Description string   `json:"description"`
	CreatedBy   string   `json:"createdBy"`
	LastUsed    Seconds  `json:"lastUsed"`
	Expires     Seconds  `json:"expires"`
	Created     Seconds  `json:"created"`
}

// Rows are all the tables, each with a row of it.
func Rows() map[string]any {
	return map[string]any{
		TableClusters: ClusterRow{}, TableRequests: RequestRow{}, TableTokens: TokenRow{}, TableWorks: WorkRow{}, TableAddOns: AddOnRow{},
		TableVersions: VersionRow{}, TableInstalled: InstalledRow{}, TableSessions: SessionRow{}, TableAccess: AccessRow{},
	}
}
