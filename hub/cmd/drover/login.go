// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/spf13/cobra"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/drover-io/drover/shared/client"
	"github.com/drover-io/drover/shared/daemon"
	"github.com/drover-io/drover/shared/durable"
	"github.com/drover-io/drover/shared/login"
)

// loginOptions of `drover login`.
type loginOptions struct {
	hub, caFile, serverName, issuer, issuerCA string
	device, noBrowser                         bool
}

// offer is what the hub says about one identity provider.
type offer struct {
	Name      string   `json:"name"`
	IssuerURL string   `json:"issuerURL"`
	ClientID  string   `json:"clientID"`
	Scopes    []string `json:"scopes"`
}

func (g *globals) loginCommand() *cobra.Command {
	var o loginOptions
	c := &cobra.Command{
		Use: "login", Short: "Log in with an identity provider, and write a kubeconfig for drover and kubectl", Args: cobra.NoArgs,
		Long: `Logs in with an identity provider of the hub, and adds to the kubeconfig a user
and a context with which drover and kubectl ask as that user. They call
"drover auth token", which refreshes the login as long as the provider lets it.

The hub is that of the kubeconfig's context, or --hub.`,
		Example: "  drover login --hub https://hub.example.com\n  drover login --device",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return g.login(cmd.Context(), cmd, o)
		},
	}
	f := c.Flags()
	f.StringVar(&o.hub, "hub", "", "URL of the hub (default that of the kubeconfig's context)")
	f.StringVar(&o.caFile, "ca-file", "", "certificates that the hub's must descend from, PEM; with --hub (default the system's)")
	f.StringVar(&o.serverName, "tls-server-name", "", "name in the hub's certificate; with --hub (default that of the URL)")
	f.StringVar(&o.issuer, "issuer", "", "name of the identity provider (default the only one)")
	f.StringVar(&o.issuerCA, "issuer-ca-file", "", "certificates that the identity provider's must descend from, PEM (default the system's)")
	f.BoolVar(&o.device, "device", false, "log in with a browser on another machine")
	f.BoolVar(&o.noBrowser, "no-browser", false, "only print the URL, and open no browser")
	return c
}

func (g *globals) login(ctx context.Context, cmd *cobra.Command, o loginOptions) error {
	target, err := g.target(o)
	if err != nil {
		return err
	}
	hub, err := client.NewForConfig(rest.CopyConfig(target.rest))
	if err != nil {
		return err
	}
	var described struct {
		Issuers []offer `json:"issuers"`
	}
	if err := hub.Get(ctx, "/v1/login", &described); err != nil {
		return explainTLS(client.Explain(err, hub.Server()))
	}
	chosen, err := choose(described.Issuers, o.issuer)
	if err != nil {
		return err
	}
	if o.issuerCA != "" {
		if o.issuerCA, err = filepath.Abs(o.issuerCA); err != nil {
			return err
		}
	}
	issuer := login.Issuer{URL: chosen.IssuerURL, ClientID: chosen.ClientID, Scopes: chosen.Scopes, CAFile: o.issuerCA}
	token, err := g.ask(ctx, cmd, issuer, o.device, o.noBrowser)
	if err != nil {
		return err
	}
	as := rest.CopyConfig(target.rest)
	as.BearerToken = token.IDToken
	if hub, err = client.NewForConfig(as); err != nil {
		return err
	}
	var me struct {
		User   string   `json:"user"`
		Groups []string `json:"groups"`
	}
	if err := hub.Get(ctx, "/v1/session", &me); err != nil {
		return daemon.Hint(fmt.Errorf("the identity provider logged you in, but the hub does not accept its token: %w", err),
			"the hub's administrator can see why in the hub's log and `drover audit`")
	}
	path, err := g.writeLogin(target, chosen.Name, issuer, o.device)
	if err != nil {
		return err
	}
	say(cmd, "Logged in as %s, groups %s.", me.User, strings.Join(me.Groups, ", "))
	say(cmd, "Context %s of %s is the current one; kubectl works with it too.", target.context(chosen.Name), path)
	return nil
}

// target is the hub to log in to.
type target struct {
	name    string // of the cluster's entry in the kubeconfig
	cluster *clientcmdapi.Cluster
	rest    *rest.Config // without a credential
}

func (t *target) context(issuer string) string { return t.name + "-" + issuer }

func (g *globals) target(o loginOptions) (*target, error) {
	t := &target{}
	switch {
	case o.hub == "" && (o.caFile != "" || o.serverName != ""):
		return nil, daemon.Usage("ca-file, tls-server-name: they go with --hub")
	case o.hub != "":
		base, err := url.Parse(o.hub)
		if err != nil || base.Scheme != "https" || base.Hostname() == "" {
			return nil, daemon.Usage("hub %q: want https://host[:port]", o.hub)
		}
		t.name = "drover-" + base.Hostname()
		t.cluster = &clientcmdapi.Cluster{Server: strings.TrimSuffix(o.hub, "/"), TLSServerName: o.serverName}
		if o.caFile != "" {
			if t.cluster.CertificateAuthorityData, err = os.ReadFile(o.caFile); err != nil {
				return nil, fmt.Errorf("ca-file: %w", err)
			}
		}
	default:
		raw, err := g.loader().RawConfig()
		if err != nil {
			return nil, fmt.Errorf("kubeconfig: %w", err)
		}
		name := g.context
		if name == "" {
			name = raw.CurrentContext
		}
		c := raw.Contexts[name]
		if c == nil || raw.Clusters[c.Cluster] == nil {
			return nil, &daemon.Error{
				Err: errors.New("hub: missing, and the kubeconfig has no current context"), Code: daemon.ExitUsage,
				Hint: "name the hub with --hub https://HOST",
			}
		}
		t.name, t.cluster = c.Cluster, raw.Clusters[c.Cluster]
	}
	only := clientcmdapi.NewConfig()
	only.Clusters["hub"] = t.cluster
	only.Contexts["hub"] = &clientcmdapi.Context{Cluster: "hub"}
	only.CurrentContext = "hub"
	cfg, err := clientcmd.NewDefaultClientConfig(*only, nil).ClientConfig()
	if err != nil {
		return nil, fmt.Errorf("hub: %w", err)
	}
	t.rest = cfg
	return t, nil
}

func (g *globals) loader() clientcmd.ClientConfig {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = g.kubeconfig
	return clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, &clientcmd.ConfigOverrides{CurrentContext: g.context})
}

func explainTLS(err error) error {
	if err == nil || !strings.Contains(err.Error(), "x509: ") {
		return err
	}
	return daemon.Hint(err, "if the hub uses its own certificate, `drover-hub ca roots` on the hub prints what --ca-file needs; --tls-server-name localhost helps when the name does not fit")
}

// choose returns the provider that the person named, or the only one.
func choose(offers []offer, name string) (offer, error) {
	var names []string
	for _, o := range offers {
		if o.ClientID == "" {
			continue
		}
		if o.Name == name {
			return o, nil
		}
		names = append(names, o.Name)
	}
	switch {
	case len(names) == 0:
		return offer{}, daemon.Hint(errors.New("the hub has no identity provider for the command line"),
			"the hub's option oidc names them, with a cliClientID; until then use an access token or the admin's kubeconfig")
	case name != "":
		return offer{}, daemon.Usage("issuer %q: the hub has %s", name, strings.Join(names, ", "))
	case len(names) > 1:
		return offer{}, daemon.Usage("issuer: choose one with --issuer: %s", strings.Join(names, ", "))
	}
	for _, o := range offers {
		if o.Name == names[0] {
			return o, nil
		}
	}
	return offer{}, nil
}

// ask logs in anew and keeps the token.
func (g *globals) ask(ctx context.Context, cmd *cobra.Command, issuer login.Issuer, device, noBrowser bool) (*login.Token, error) {
	cache, err := login.DefaultCache()
	if err != nil {
		return nil, err
	}
	c, err := login.New(issuer)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	unlock, err := cache.Lock(ctx, issuer)
	if err != nil {
		return nil, err
	}
	defer unlock()
	token, err := converse(ctx, cmd, c, device, noBrowser)
	if err != nil {
		return nil, err
	}
	return token, cache.Store(issuer, token)
}

// converse asks the person, on standard error.
func converse(ctx context.Context, cmd *cobra.Command, c *login.Client, device, noBrowser bool) (*login.Token, error) {
	if device {
		return c.Device(ctx, func(url, code, complete string) {
			say(cmd, "Open %s on any machine and enter the code %s", url, code)
			if complete != "" {
				say(cmd, "or open %s", complete)
			}
		})
	}
	return c.Browser(ctx, func(url string) {
		if noBrowser || openBrowser(ctx, url) != nil {
			say(cmd, "Open this in a browser on this machine (--device is for another one):")
		} else {
			say(cmd, "Log in with the browser that opens. If none does, open:")
		}
		say(cmd, "%s", url)
	})
}

// openBrowser starts $BROWSER, or what the system has for it, and does not wait.
func openBrowser(ctx context.Context, url string) error {
	name, args := "xdg-open", []string{url}
	switch {
	case os.Getenv("BROWSER") != "":
		name = os.Getenv("BROWSER")
	case runtime.GOOS == "darwin":
		name = "open"
	case runtime.GOOS == "windows":
		name, args = "rundll32", []string{"url.dll,FileProtocolHandler", url}
	}
	cmd := exec.CommandContext(context.WithoutCancel(ctx), name, args...)
	if err := cmd.Start(); err != nil {
		return err
	}
	return cmd.Process.Release()
}

// writeLogin adds the user and the context to the kubeconfig.
func (g *globals) writeLogin(t *target, name string, issuer login.Issuer, device bool) (string, error) {
	path := g.kubeconfig
	if path == "" {
		path = clientcmd.NewDefaultClientConfigLoadingRules().GetDefaultFilename()
	}
	cfg, err := clientcmd.LoadFromFile(path)
	if errors.Is(err, os.ErrNotExist) {
		cfg, err = clientcmdapi.NewConfig(), os.MkdirAll(filepath.Dir(path), 0o700)
	}
	if err != nil {
		return "", fmt.Errorf("kubeconfig: %w", err)
	}
	user := t.context(name)
	cfg.Clusters[t.name] = t.cluster
	cfg.AuthInfos[user] = &clientcmdapi.AuthInfo{Exec: plugin(issuer, device)}
	cfg.Contexts[user] = &clientcmdapi.Context{Cluster: t.name, AuthInfo: user}
	cfg.CurrentContext = user
	text, err := clientcmd.Write(*cfg)
	if err != nil {
		return "", fmt.Errorf("kubeconfig: %w", err)
	}
	return path, durable.WriteFile(path, text, 0o600)
}

// plugin is how drover and kubectl get the token.
func plugin(issuer login.Issuer, device bool) *clientcmdapi.ExecConfig {
	args := append([]string{"auth", "token"}, tokenFlags(issuer, device)...)
	return &clientcmdapi.ExecConfig{
		APIVersion: execVersion, Command: ownName(), Args: args, InteractiveMode: clientcmdapi.IfAvailableExecInteractiveMode,
		InstallHint: "drover, the command line of the hub, must be installed: it keeps the login",
	}
}

// ownName is how to start this program: by its name where the PATH leads to it.
func ownName() string {
	self, err := os.Executable()
	if err != nil {
		return "drover"
	}
	if found, err := exec.LookPath("drover"); err == nil {
		a, aerr := os.Stat(found)
		b, berr := os.Stat(self)
		if aerr == nil && berr == nil && os.SameFile(a, b) {
			return "drover"
		}
	}
	return self
}
