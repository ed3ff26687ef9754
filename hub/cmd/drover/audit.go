// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/drover-io/drover/shared/client"
	"github.com/drover-io/drover/shared/daemon"
)

// auditEvent is what the table shows of an Event of audit.k8s.io/v1.
type auditEvent struct {
	AuditID string `json:"auditID"`
	Verb    string `json:"verb"`
	User    struct {
		Username string `json:"username"`
	} `json:"user"`
	SourceIPs  []string `json:"sourceIPs"`
	UserAgent  string   `json:"userAgent"`
	RequestURI string   `json:"requestURI"`
	ObjectRef  *struct {
		Resource, Namespace, Name, Subresource string
	} `json:"objectRef"`
	ResponseStatus metav1.Status     `json:"responseStatus"`
	StageTimestamp metav1.MicroTime  `json:"stageTimestamp"`
	Annotations    map[string]string `json:"annotations"`
}

// auditReport is the hub's answer about the chain.
type auditReport struct {
	Records  uint64 `json:"records"`
	First    uint64 `json:"first"`
	Last     uint64 `json:"last"`
	Head     string `json:"head"`
	Breaks   int    `json:"breaks"`
	FirstBad *struct {
		Sequence uint64 `json:"sequence"`
		Message  uint64 `json:"message"`
		Reason   string `json:"reason"`
	} `json:"firstBad"`
}

func (g *globals) auditCommand() *cobra.Command {
	filter := map[string]*string{}
	var since time.Duration
	var limit int
	var verify bool
	c := &cobra.Command{
		Use: "audit", Short: "Who changed what, who was refused; and whether the log was tampered with", Args: cobra.NoArgs,
		Example: "  drover audit --resource joinrequests --since 24h\n  drover audit --verify",
		RunE: g.run(func(ctx context.Context, cmd *cobra.Command, hub *client.Client, _ []string) error {
			if verify {
				return g.auditVerify(ctx, cmd, hub)
			}
			query := url.Values{"limit": {strconv.Itoa(limit)}}
			for name, value := range filter {
				if *value != "" {
					query.Set(name, *value)
				}
			}
			if since > 0 {
				query.Set("since", time.Now().Add(-since).UTC().Format(time.RFC3339))
			}
			return g.auditList(ctx, cmd, hub, query)
		}),
	}
	f := c.Flags()
	for _, o := range []struct{ name, short, usage string }{
		{"user", "", "of this user; system:anonymous for those the hub did not know"},
		{"verb", "", "create, update, patch, delete, deletecollection; join, renew, revoke"},
		{"resource", "", "plural name, such as joinrequests"},
		{"namespace", "n", "namespace, which is the cluster of a work"},
		{"name", "", "name of the object"},
	} {
		filter[o.name] = f.StringP(o.name, o.short, "", o.usage)
	}
	f.DurationVar(&since, "since", 0, "no older than this, such as 1h (default: any age)")
	f.IntVar(&limit, "limit", 50, "how many, the newest first, at most 5000")
	f.BoolVar(&verify, "verify", false, "check the whole log's chain of hashes instead")
	return c
}

func (g *globals) auditList(ctx context.Context, cmd *cobra.Command, hub *client.Client, query url.Values) error {
	var answer json.RawMessage
	if err := hub.Get(ctx, "/audit?"+query.Encode(), &answer); err != nil {
		return err
	}
	out := cmd.OutOrStdout()
	var list struct {
		Items []auditEvent `json:"items"`
	}
	if err := json.Unmarshal(answer, &list); err != nil {
		return fmt.Errorf("read the hub's answer: %w", err)
	}
	switch g.output {
	case "json", "yaml":
		var whole map[string]any
		if err := json.Unmarshal(answer, &whole); err != nil {
			return fmt.Errorf("read the hub's answer: %w", err)
		}
		return g.encode(out, whole)
	case "name":
		for _, ev := range list.Items {
			fmt.Fprintln(out, "event.audit.k8s.io/"+ev.AuditID)
		}
		return nil
	}
	if len(list.Items) == 0 {
		say(cmd, "No records found.")
		return nil
	}
	return printAudit(out, list.Items, g.output == "wide")
}

// printAudit lays out records in the order given.
func printAudit(out io.Writer, events []auditEvent, wide bool) error {
	w := tabwriter.NewWriter(out, 0, 4, 3, ' ', 0)
	head := "TIME\tUSER\tVERB\tOBJECT\tCODE\tFROM\tNOTE"
	if wide {
		head = "SEQUENCE\t" + head + "\tMESSAGE\tUSER AGENT\tAUDIT ID"
	}
	fmt.Fprintln(w, head)
	for i := range events {
		ev := &events[i]
		object := ev.RequestURI
		if ref := ev.ObjectRef; ref != nil {
			object = ref.Resource
			if ref.Subresource != "" {
				object += "/" + ref.Subresource
			}
			for _, part := range []string{ref.Namespace, ref.Name} {
				if part != "" {
					object += " " + part
				}
			}
		}
		cells := []string{
			ev.StageTimestamp.UTC().Format(time.RFC3339), cell(ev.User.Username), cell(ev.Verb), cell(object),
			cell(ev.ResponseStatus.Code), cell(strings.Join(ev.SourceIPs, ",")), cell(auditNote(ev)),
		}
		if wide {
			cells = append([]string{cell(ev.Annotations["audit.drover.io/sequence"])}, cells...)
			cells = append(cells, cell(ev.ResponseStatus.Message), cell(ev.UserAgent), cell(ev.AuditID))
		}
		fmt.Fprintln(w, strings.Join(cells, "\t"))
	}
	return w.Flush()
}

func auditNote(ev *auditEvent) string {
	var notes []string
	if ev.Annotations["audit.drover.io/dry-run"] != "" {
		notes = append(notes, "dry run")
	}
	if ev.ResponseStatus.Reason != "" {
		notes = append(notes, string(ev.ResponseStatus.Reason))
	}
	for _, a := range []struct{ name, text string }{
		{"audit.drover.io/removed", "removed %s"},
		{"enroll.drover.io/cluster", "cluster %s"},
		{"enroll.drover.io/approved-by", "approved by %s"},
		{"audit.drover.io/suppressed", "%s refusals before this one were only counted"},
		{"audit.drover.io/not-recorded", "%s requests before this one are missing"},
	} {
		if v := ev.Annotations[a.name]; v != "" {
			notes = append(notes, fmt.Sprintf(a.text, v))
		}
	}
	return strings.Join(notes, ", ")
}

func (g *globals) auditVerify(ctx context.Context, cmd *cobra.Command, hub *client.Client) error {
	var r auditReport
	if err := hub.Get(ctx, "/audit/verify", &r); err != nil {
		return err
	}
	if g.output == "json" || g.output == "yaml" {
		if err := g.encode(cmd.OutOrStdout(), r); err != nil {
			return err
		}
	} else {
		fmt.Fprintf(cmd.OutOrStdout(), "records  %d, from %d to %d\nhead     %s\nbreaks   %d\n", r.Records, r.First, r.Last, cell(r.Head), r.Breaks)
	}
	if b := r.FirstBad; b != nil {
		return daemon.Hint(fmt.Errorf("the audit log is damaged at record %d: %s", b.Sequence, cell(b.Reason)),
			"records were changed, lost or added behind the hub's back; compare with a backup of the hub")
	}
	say(cmd, "The chain is whole. Keep its head elsewhere: it proves later that nothing up to here was rewritten.")
	return nil
}
