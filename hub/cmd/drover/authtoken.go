// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	clientauthv1 "k8s.io/client-go/pkg/apis/clientauthentication/v1"

	"github.com/drover-io/drover/shared/apis/fleet"
	"github.com/drover-io/drover/shared/client"
	"github.com/drover-io/drover/shared/daemon"
	"github.com/drover-io/drover/shared/login"
)

// execVersion is the version of the plugin protocol of kubectl and client-go.
const execVersion = "client.authentication.k8s.io/v1"

// tokenFlags are the arguments of `drover auth token`; tokenOptions reads them.
func tokenFlags(issuer login.Issuer, device bool) []string {
	args := []string{"--issuer-url=" + issuer.URL, "--client-id=" + issuer.ClientID, "--scopes=" + strings.Join(issuer.Scopes, ",")}
	if issuer.CAFile != "" {
		args = append(args, "--issuer-ca-file="+issuer.CAFile)
	}
	if device {
		args = append(args, "--device")
	}
	return args
}

type tokenOptions struct {
	issuer login.Issuer
	device bool
}

func (o *tokenOptions) register(f *pflag.FlagSet) {
	f.StringVar(&o.issuer.URL, "issuer-url", "", "of the identity provider")
	f.StringVar(&o.issuer.ClientID, "client-id", "", "of the command line at the identity provider")
	f.StringSliceVar(&o.issuer.Scopes, "scopes", []string{"openid"}, "to ask for")
	f.StringVar(&o.issuer.CAFile, "issuer-ca-file", "", "certificates that the identity provider's must descend from, PEM (default the system's)")
	f.BoolVar(&o.device, "device", false, "when a person must log in again: with a browser on another machine")
}

func (g *globals) authCommand() *cobra.Command {
	c := &cobra.Command{Use: "auth", Short: "What kubectl calls for a login", Args: cobra.NoArgs, RunE: help}
	var o tokenOptions
	token := &cobra.Command{
		Use: "token", Short: "Print the login's token as an ExecCredential, refreshed if need be", Args: cobra.NoArgs,
		Long: `Prints the token of the last login as an ExecCredential, refreshed if need be.
"drover login" writes a kubeconfig that calls this; it is not for people.`,
		RunE: func(cmd *cobra.Command, _ []string) error { return authToken(cmd.Context(), cmd, o) },
	}
	o.register(token.Flags())
	c.AddCommand(token)
	return c
}

func authToken(ctx context.Context, cmd *cobra.Command, o tokenOptions) error {
	interactive, err := mayAsk(os.Getenv("KUBERNETES_EXEC_INFO"))
	if err != nil {
		return err
	}
	cache, err := login.DefaultCache()
	if err != nil {
		return err
	}
	c, err := login.New(o.issuer)
	if err != nil {
		return err
	}
	defer c.Close()
	var again func(context.Context) (*login.Token, error)
	if interactive {
		again = func(ctx context.Context) (*login.Token, error) { return converse(ctx, cmd, c, o.device, false) }
	}
	t, err := cache.Get(ctx, c, again)
	if errors.Is(err, login.ErrLoginNeeded) {
		return &daemon.Error{Err: err, Hint: "log in again: drover login", Code: daemon.ExitWaiting}
	}
	if err != nil {
		return err
	}
	// Who asks keeps the token until then.
	expires := metav1.NewTime(t.Expires.Add(-login.ExpirySkew))
	return json.NewEncoder(cmd.OutOrStdout()).Encode(&clientauthv1.ExecCredential{
		TypeMeta: metav1.TypeMeta{APIVersion: execVersion, Kind: "ExecCredential"},
		Status:   &clientauthv1.ExecCredentialStatus{Token: t.IDToken, ExpirationTimestamp: &expires},
	})
}

// mayAsk says whether there is a person, from what kubectl says in its variable or,
// without that, from standard input.
func mayAsk(info string) (bool, error) {
	if info == "" {
		st, err := os.Stdin.Stat()
		return err == nil && st.Mode()&os.ModeCharDevice != 0, nil
	}
	var ask clientauthv1.ExecCredential
	if err := json.Unmarshal([]byte(info), &ask); err != nil {
		return false, fmt.Errorf("KUBERNETES_EXEC_INFO: %w", err)
	}
	if ask.APIVersion != execVersion {
		return false, daemon.Usage("KUBERNETES_EXEC_INFO: apiVersion %q: want %s", ask.APIVersion, execVersion)
	}
	return ask.Spec.Interactive, nil
}

func (g *globals) logoutCommand() *cobra.Command {
	return &cobra.Command{
		Use: "logout", Short: "Forget the login of the kubeconfig's context", Args: cobra.NoArgs,
		Example: "  drover logout\n  drover logout --context drover-alice",
		RunE:    func(cmd *cobra.Command, _ []string) error { return g.logout(cmd.Context(), cmd) },
	}
}

func (g *globals) logout(ctx context.Context, cmd *cobra.Command) error {
	o, err := g.loginOfContext()
	if err != nil {
		return err
	}
	cache, err := login.DefaultCache()
	if err != nil {
		return err
	}
	unlock, err := cache.Lock(ctx, o.issuer)
	if err != nil {
		return err
	}
	defer unlock()
	t, err := cache.Load(o.issuer)
	if err != nil {
		return err
	}
	if err := cache.Delete(o.issuer); err != nil {
		return fmt.Errorf("forget the login: %w", err)
	}
	c, err := login.New(o.issuer)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.Revoke(ctx, t); err != nil {
		say(cmd, "The login is forgotten here, but the identity provider could not be told: %v", err)
		return nil
	}
	say(cmd, "Logged out. The hub accepts the last token until it ends, some minutes at most.")
	return nil
}

// loginOfContext reads what writeLogin wrote.
func (g *globals) loginOfContext() (*tokenOptions, error) {
	raw, err := g.loader().RawConfig()
	if err != nil {
		return nil, fmt.Errorf("kubeconfig: %w", err)
	}
	name := g.context
	if name == "" {
		name = raw.CurrentContext
	}
	var o tokenOptions
	if c := raw.Contexts[name]; c != nil {
		if u := raw.AuthInfos[c.AuthInfo]; u != nil && u.Exec != nil && len(u.Exec.Args) > 2 && u.Exec.Args[0] == "auth" && u.Exec.Args[1] == "token" {
			f := pflag.NewFlagSet("", pflag.ContinueOnError)
			o.register(f)
			if err := f.Parse(u.Exec.Args[2:]); err != nil {
				return nil, fmt.Errorf("kubeconfig: user %s: %w", c.AuthInfo, err)
			}
			return &o, nil
		}
	}
	return nil, daemon.Hint(fmt.Errorf("context %q is not one of `drover login`", name), "choose one with --context")
}

func (g *globals) dashboardCommand() *cobra.Command {
	var open bool
	c := &cobra.Command{
		Use: "dashboard", Short: "Print a link that logs a browser in, once, as the holder of the client certificate", Args: cobra.NoArgs,
		Example: "  drover dashboard --open",
		Long: `Prints a link to the dashboard that logs a browser in as the user of the
kubeconfig's client certificate, such as that of DATA-DIR/admin.kubeconfig.
It works once, within a minute. Others log in at the hub's own address.`,
		RunE: g.run(func(ctx context.Context, cmd *cobra.Command, hub *client.Client, _ []string) error {
			var link struct {
				URL     string `json:"url"`
				Expires string `json:"expires"`
			}
			if err := hub.Post(ctx, "/v1/login/link", map[string]string{}, &link); err != nil {
				return err
			}
			if open {
				if err := openBrowser(ctx, link.URL); err == nil {
					return nil
				}
			}
			fmt.Fprintln(cmd.OutOrStdout(), link.URL)
			say(cmd, "The link works once, until %s. Whoever opens it is you.", link.Expires)
			return nil
		}),
	}
	c.Flags().BoolVar(&open, "open", false, "open a browser instead of printing the link")
	return c
}

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
