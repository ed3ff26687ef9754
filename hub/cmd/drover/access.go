// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/drover-io/drover/shared/apis/fleet"
	"github.com/drover-io/drover/shared/client"
	"github.com/drover-io/drover/shared/daemon"
)

func accessTokens() schema.GroupVersionResource { return fleetResource("accesstokens") }
func sessions() schema.GroupVersionResource     { return fleetResource("sessions") }

func (g *globals) accessCommand() *cobra.Command {
	c := &cobra.Command{Use: "access", Short: "Access tokens: let programs ask the hub as a user", Args: cobra.NoArgs, RunE: help}
	c.AddCommand(g.accessCreateCommand(),
		g.listOf("list", "List access tokens, without their secrets", accessTokens()),
		g.deleteOf("revoke NAME", "End an access token at once", "drover access revoke ci", accessTokens(), "access token %s is revoked"))
	return c
}

func (g *globals) sessionCommand() *cobra.Command {
	c := &cobra.Command{Use: "session", Short: "Sessions: browsers that are logged in to the dashboard", Args: cobra.NoArgs, RunE: help}
	c.AddCommand(g.listOf("list", "List who is logged in", sessions()),
		g.deleteOf("revoke NAME", "Log a browser out at once", "drover session revoke NAME", sessions(), "session %s is revoked"))
	return c
}

func (g *globals) listOf(use, short string, gvr schema.GroupVersionResource) *cobra.Command {
	return &cobra.Command{
		Use: use, Short: short, Args: cobra.NoArgs,
		RunE: g.run(func(ctx context.Context, cmd *cobra.Command, hub *client.Client, _ []string) error {
			return g.list(ctx, cmd, hub, gvr, "", metav1.ListOptions{})
		}),
	}
}

func (g *globals) deleteOf(use, short, example string, gvr schema.GroupVersionResource, done string) *cobra.Command {
	return &cobra.Command{
		Use: use, Short: short, Args: cobra.ExactArgs(1), Example: "  " + example,
		RunE: g.run(func(ctx context.Context, cmd *cobra.Command, hub *client.Client, args []string) error {
			if err := hub.Resource(gvr).Delete(ctx, args[0], metav1.DeleteOptions{}); err != nil {
				return err
			}
			say(cmd, done, args[0])
			return nil
		}),
	}
}

func (g *globals) accessCreateCommand() *cobra.Command {
	var spec fleet.AccessTokenSpec
	var ttl time.Duration
	c := &cobra.Command{
		Use: "create NAME --user USER", Short: "Create an access token and print it, once", Args: cobra.ExactArgs(1),
		Long: `Creates an access token for a program and prints it, once. The program sends it
as a bearer token, or has it in a kubeconfig (users[].user.token or tokenFile).

What the holder may do follows from USER and the groups, by roles and bindings.
Nobody creates a token for another user or group than their own without the
permission to impersonate it.`,
		Example: "  drover access create ci --user ci:deploy --group deployers --ttl 720h > token",
		RunE: g.run(func(ctx context.Context, cmd *cobra.Command, hub *client.Client, args []string) error {
			if spec.User == "" {
				return daemon.Usage("user: missing; name it with --user")
			}
			spec.TTLSeconds = int64(ttl.Seconds())
			t := fleet.AccessToken{
				TypeMeta:   metav1.TypeMeta{APIVersion: fleet.Group + "/" + fleet.Version, Kind: fleet.KindAccessToken},
				ObjectMeta: metav1.ObjectMeta{Name: args[0]}, Spec: spec,
			}
			obj, err := toUnstructured(&t)
			if err != nil {
				return err
			}
			created, err := hub.Resource(accessTokens()).Create(ctx, obj, metav1.CreateOptions{FieldManager: client.FieldManager})
			if err != nil {
				return err
			}
			if err := into(created.Object, &t); err != nil {
				return err
			}
			if g.output != "table" && g.output != "wide" {
				return g.object(cmd, accessTokens(), created, "")
			}
			fmt.Fprintln(cmd.OutOrStdout(), t.Status.Token)
			say(cmd, "access token %s for %s, until %s; it cannot be shown again", t.Name, t.Spec.User, t.Status.Expires.Format(time.RFC3339))
			return nil
		}),
	}
	f := c.Flags()
	f.StringVar(&spec.User, "user", "", "whom the holder is taken for")
	f.StringSliceVar(&spec.Groups, "group", nil, "group of the holder; repeatable")
	f.DurationVar(&ttl, "ttl", 90*24*time.Hour, "how long it is good for, at most 8760h")
	f.StringVar(&spec.Description, "description", "", "what it is for")
	return c
}
