// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/drover-io/drover/shared/apis/fleet"
	"github.com/drover-io/drover/shared/client"
	"github.com/drover-io/drover/shared/daemon"
)

func (g *globals) tokenCommand() *cobra.Command {
	c := &cobra.Command{Use: "token", Short: "Join tokens: permission to ask to join", Args: cobra.NoArgs, RunE: help}
	c.AddCommand(g.tokenCreateCommand(), &cobra.Command{
		Use: "list", Short: "List join tokens, without their secrets", Args: cobra.NoArgs,
		RunE: g.run(func(ctx context.Context, cmd *cobra.Command, hub *client.Client, _ []string) error {
			return g.list(ctx, cmd, hub, tokens(), "", metav1.ListOptions{})
		}),
	}, &cobra.Command{
		Use: "revoke NAME", Short: "End a join token at once", Args: cobra.ExactArgs(1),
		Example: "  drover token revoke jt-7kq2x",
		RunE: g.run(func(ctx context.Context, cmd *cobra.Command, hub *client.Client, args []string) error {
			obj, err := patch(ctx, hub, tokens(), args[0], map[string]any{"spec": map[string]any{"revoked": true}})
			if err != nil {
				return err
			}
			return g.object(cmd, tokens(), obj, "join token "+args[0]+" is revoked")
		}),
	})
	return c
}

func help(c *cobra.Command, _ []string) error { return c.Help() }

func (g *globals) tokenCreateCommand() *cobra.Command {
	var spec fleet.JoinTokenSpec
	var name string
	var ttl time.Duration
	var labels []string
	c := &cobra.Command{
		Use: "create", Short: "Create a join token and print it, once", Args: cobra.NoArgs,
		Example: "  drover token create --cluster shop-1 > token && chmod 600 token",
		RunE: g.run(func(ctx context.Context, cmd *cobra.Command, hub *client.Client, _ []string) error {
			spec.TTLSeconds = int64(ttl.Seconds())
			set, _, err := parseLabels(labels, false)
			if err != nil {
				return err
			}
			spec.Labels = set
			t := fleet.JoinToken{
				TypeMeta:   metav1.TypeMeta{APIVersion: fleet.Group + "/" + fleet.Version, Kind: fleet.KindJoinToken},
				ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: spec,
			}
			if name == "" {
				t.GenerateName = "jt-"
			}
			obj, err := toUnstructured(&t)
			if err != nil {
				return err
			}
			created, err := hub.Resource(tokens()).Create(ctx, obj, metav1.CreateOptions{FieldManager: client.FieldManager})
			if err != nil {
				return err
			}
			if err := into(created.Object, &t); err != nil {
				return err
			}
			if g.output == "table" || g.output == "wide" {
				fmt.Fprintln(cmd.OutOrStdout(), t.Status.Token)
				say(cmd, "join token %s: %s, until %s; it cannot be shown again", t.Name, plural(int(t.Spec.Uses), "use"), t.Status.Expires.Format(time.RFC3339))
				say(cmd, "on the cluster, with the token on standard input: drover-agent join --token-file -")
				return nil
			}
			return g.object(cmd, tokens(), created, "")
		}),
	}
	f := c.Flags()
	f.StringVar(&name, "name", "", "name of the object (default: made up)")
	f.StringVar(&spec.ClusterName, "cluster", "", "the only cluster name it is good for (default: the agent chooses)")
	f.DurationVar(&ttl, "ttl", time.Hour, "how long it is good for, at most 168h")
	f.Int32Var(&spec.Uses, "uses", 1, "how many clusters may join with it")
	f.BoolVar(&spec.AutoApprove, "auto-approve", false, "approve without a person; needs --cluster, and the name not in use")
	f.StringSliceVar(&labels, "label", nil, "label for the cluster, key=value; repeatable")
	return c
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

func (g *globals) requestsCommand() *cobra.Command {
	return &cobra.Command{
		Use: "requests", Short: "Who asks to join, and what was decided", Args: cobra.NoArgs,
		RunE: g.run(func(ctx context.Context, cmd *cobra.Command, hub *client.Client, _ []string) error {
			return g.list(ctx, cmd, hub, requests(), "", metav1.ListOptions{})
		}),
	}
}

func (g *globals) approveCommand() *cobra.Command {
	var fingerprint string
	var replace bool
	var timeout time.Duration
	c := &cobra.Command{
		Use: "approve REQUEST --fingerprint F", Short: "Let a cluster join, naming the fingerprint its agent printed", Args: cobra.ExactArgs(1),
		Example: "  drover approve shop-1 --fingerprint 75100530cbf328b1",
		Long: `Lets a cluster join. F is the fingerprint that drover-agent printed on that
cluster, at least its first 16 digits: take it from there, and not from the
list of requests, or nothing is compared with anything.

REQUEST is a join request's name, or the cluster name of the only pending one.`,
		RunE: g.run(func(ctx context.Context, cmd *cobra.Command, hub *client.Client, args []string) error {
			if fingerprint == "" {
				return &daemon.Error{
					Err: errors.New("fingerprint: missing"), Code: daemon.ExitUsage,
					Hint: "add --fingerprint with what `drover-agent join` printed on that cluster",
				}
			}
			name, err := findRequest(ctx, hub, args[0])
			if err != nil {
				return err
			}
			if _, err := patch(ctx, hub, requests(), name, decision(fleet.Approval{
				Decision: fleet.Approve, Fingerprint: fingerprint, Replace: replace,
			})); err != nil {
				return err
			}
			obj, jr, err := awaitDecision(ctx, hub, name, timeout)
			if err != nil {
				return err
			}
			if jr.Status.Phase != fleet.PhaseJoined {
				return fmt.Errorf("join request %s is %s: %s", name, jr.Status.Phase, jr.Status.Message)
			}
			return g.object(cmd, requests(), obj, "cluster "+jr.Spec.ClusterName+" is approved; its agent collects the certificate and connects")
		}),
	}
	c.Flags().StringVar(&fingerprint, "fingerprint", "", "as printed by the agent, at least 16 hex digits")
	c.Flags().BoolVar(&replace, "replace", false, "the name is in use: revoke the agent that holds it")
	c.Flags().DurationVar(&timeout, "timeout", 30*time.Second, "how long to wait for the hub to sign")
	return c
}

func (g *globals) denyCommand() *cobra.Command {
	var reason string
	c := &cobra.Command{
		Use: "deny REQUEST", Short: "Refuse a join request", Args: cobra.ExactArgs(1),
		Example: "  drover deny shop-1 --reason 'not ours'",
		RunE: g.run(func(ctx context.Context, cmd *cobra.Command, hub *client.Client, args []string) error {
			name, err := findRequest(ctx, hub, args[0])
			if err != nil {
				return err
			}
			obj, err := patch(ctx, hub, requests(), name, decision(fleet.Approval{Decision: fleet.Deny, Reason: reason}))
			if err != nil {
				return err
			}
			return g.object(cmd, requests(), obj, "join request "+name+" is denied")
		}),
	}
	c.Flags().StringVar(&reason, "reason", "", "told to the agent")
	return c
}

func decision(a fleet.Approval) map[string]any {
	return map[string]any{"spec": map[string]any{"approval": a}}
}

// findRequest resolves what the person typed: a request, or a cluster that has
// exactly one pending request.
func findRequest(ctx context.Context, hub *client.Client, name string) (string, error) {
	_, err := hub.Resource(requests()).Get(ctx, name, metav1.GetOptions{})
	if err == nil || !apierrors.IsNotFound(err) {
		return name, err
	}
	notFound := err
	all, err := hub.Resource(requests()).List(ctx, metav1.ListOptions{})
	if err != nil {
		return "", err
	}
	var found []string
	for _, item := range all.Items {
		var jr fleet.JoinRequest
		if err := into(item.Object, &jr); err != nil {
			return "", err
		}
		if jr.Spec.ClusterName == name && jr.Status.Phase == fleet.PhasePending {
			found = append(found, jr.Name)
		}
	}
	switch len(found) {
	case 0:
		return "", daemon.Hint(notFound, "`drover requests` lists them")
	case 1:
		return found[0], nil
	}
	return "", daemon.Hint(fmt.Errorf("cluster %s has %d pending requests: %s", name, len(found), strings.Join(found, ", ")),
		"name one of them; more than one may mean that somebody else holds the token")
}

func awaitDecision(ctx context.Context, hub *client.Client, name string, timeout time.Duration) (obj *unstructured.Unstructured, jr fleet.JoinRequest, err error) {
	wait, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	err = client.Poll(wait, 100*time.Millisecond, func() (bool, error) {
		if obj, err = hub.Resource(requests()).Get(wait, name, metav1.GetOptions{}); err != nil {
			return false, err
		}
		jr = fleet.JoinRequest{}
		if err := into(obj.Object, &jr); err != nil {
			return false, err
		}
		return jr.Status.Phase != fleet.PhasePending && jr.Status.Phase != fleet.PhaseApproved, nil
	})
	if err != nil && ctx.Err() == nil && wait.Err() != nil {
		err = &daemon.Error{
			Err:  fmt.Errorf("join request %s is approved, but the hub has not signed within %s", name, timeout),
			Hint: "the hub goes on by itself; `drover requests` shows when it is done, the hub's log what is wrong", Code: daemon.ExitWaiting,
		}
	}
	return obj, jr, err
}

func patch(ctx context.Context, hub *client.Client, gvr schema.GroupVersionResource, name string, change map[string]any) (*unstructured.Unstructured, error) {
	data, err := json.Marshal(change)
	if err != nil {
		return nil, err
	}
	return hub.Resource(gvr).Patch(ctx, name, types.MergePatchType, data, metav1.PatchOptions{FieldManager: client.FieldManager})
}

func toUnstructured(kind any) (*unstructured.Unstructured, error) {
	data, err := json.Marshal(kind)
	if err != nil {
		return nil, err
	}
	u := &unstructured.Unstructured{}
	if err := json.Unmarshal(data, &u.Object); err != nil {
		return nil, err
	}
	delete(u.Object, "status")
	unstructured.RemoveNestedField(u.Object, "metadata", "creationTimestamp")
	return u, nil
}
