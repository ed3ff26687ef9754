// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

// Package agent is the daemon on a managed cluster: it joins a hub, keeps one
// connection to it, reports how the cluster is, and applies what the hub wants.
package agent

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"go.uber.org/zap"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/drover-io/drover/agent/link"
	"github.com/drover-io/drover/pki/identity"
	"github.com/drover-io/drover/shared/daemon"
)

// DefaultStateDir is where an agent keeps its identity and its records.
const DefaultStateDir = "/var/lib/drover-agent"

// Config of an agent.
type Config struct {
	// StateDir is created when missing.
	StateDir string
	// Kubeconfig names the cluster. Empty: the cluster the agent runs in, and
	// none when it runs in none (a node agent).
	Kubeconfig string
	// TokenFile holds a join token, to join by itself; "-" is standard input.
	TokenFile string
	// Name to join as; empty: the token's, or else the host's.
	Name   string
	Labels map[string]string
	Log    *zap.Logger
	// Pace of the connection; zero fields take their defaults.
	Pace link.Pace
}

func (c Config) identityDir() string { return filepath.Join(c.StateDir, "identity") }
func (c Config) socket() string      { return filepath.Join(c.StateDir, "agent.sock") }

// prepare makes sure that the state dir can be written before anything else.
func (c Config) prepare() error {
	if c.StateDir == "" {
		return daemon.Usage("state-dir: must not be empty")
	}
	if err := os.MkdirAll(c.identityDir(), 0o700); err != nil {
		return daemon.Hint(fmt.Errorf("state dir %s: %w", c.StateDir, err),
			"choose another with --state-dir, or make it writable for this user")
	}
	probe, err := os.CreateTemp(c.StateDir, ".write-*")
	if err != nil {
		return daemon.Hint(fmt.Errorf("state dir %s: %w", c.StateDir, err),
			"choose another with --state-dir, or make it writable for this user")
	}
	probe.Close()
	return os.Remove(probe.Name())
}

// kubernetes returns the configuration of the managed cluster, nil for none.
func (c Config) kubernetes() (*rest.Config, error) {
	if c.Kubeconfig == "" {
		cfg, err := rest.InClusterConfig()
		if errors.Is(err, rest.ErrNotInCluster) {
			return nil, nil
		}
		return cfg, err
	}
	cfg, err := clientcmd.BuildConfigFromFlags("", c.Kubeconfig)
	if err != nil {
		return nil, daemon.Hint(fmt.Errorf("kubeconfig %s: %w", c.Kubeconfig, err),
			"try it with: kubectl --kubeconfig %s version", c.Kubeconfig)
	}
	return cfg, nil
}

// clusterName decides under which name to join.
func (c Config) clusterName(tokens string) (string, error) {
	name := c.Name
	if name == "" {
		name = tokens
	}
	if name == "" {
		host, err := os.Hostname()
		if err != nil {
			return "", daemon.Hint(fmt.Errorf("find a name for this cluster: %w", err), "give one with --name")
		}
		name = nameOf(host)
	}
	if err := identity.ValidName(name); err != nil {
		return "", &daemon.Error{Err: fmt.Errorf("name: %w", err), Code: daemon.ExitUsage, Hint: "give another with --name"}
	}
	if tokens != "" && tokens != name {
		return "", &daemon.Error{
			Err:  fmt.Errorf("name: the token is for cluster %q, not %q", tokens, name),
			Code: daemon.ExitUsage, Hint: "leave --name out, or ask for a token for this name",
		}
	}
	return name, nil
}

var notName = regexp.MustCompile(`[^a-z0-9-]+`)

// nameOf makes a cluster name of a host name.
func nameOf(host string) string {
	short, _, _ := strings.Cut(strings.ToLower(host), ".")
	name := strings.Trim(notName.ReplaceAllString(short, "-"), "-")
	return strings.Trim(name[:min(len(name), 63)], "-")
}

// readToken returns the text of the token file, empty when there is none yet.
func (c Config) readToken() (string, error) {
	text, err := os.ReadFile(c.TokenFile)
	if errors.Is(err, fs.ErrNotExist) {
		return "", daemon.Hint(fmt.Errorf("token file %s: no such file", c.TokenFile),
			"create a token on the hub with `drover token create` and write it there, mode 0600")
	}
	if err != nil {
		return "", fmt.Errorf("token file: %w", err)
	}
	return string(text), nil
}
