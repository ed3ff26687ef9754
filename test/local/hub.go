// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package local

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Hub is a hub and the folder of everything that belongs to it.
type Hub struct {
	Programs
	Dir     string // data dir in Dir/hub, agents' state dirs and logs beside it
	URL     string
	Process *Process
}

const startLimit = time.Minute

// Path is below the hub's folder.
func (h *Hub) Path(elem ...string) string { return filepath.Join(append([]string{h.Dir}, elem...)...) }

// Kubeconfig is the admin credential.
func (h *Hub) Kubeconfig() string { return h.Path("hub", "admin.kubeconfig") }

// Address is where the hub listens, host:port.
func (h *Hub) Address() string { return strings.TrimPrefix(h.URL, "https://") }

// Unlimited are options of a hub whose speed is measured, or that is given all
// the work of a fleet by one person: it does not hold back one user's requests.
func Unlimited() []string { return []string{"--api-rate", "1000000", "--api-burst", "1000000"} }

// StartHub starts a hub on address listen and waits until it serves. A folder
// that a hub used before is that hub again.
func (p Programs) StartHub(ctx context.Context, dir, listen string, args ...string) (*Hub, error) {
	h := &Hub{Programs: p, Dir: dir}
	return h, h.Start(ctx, listen, args...)
}

// Start starts the hub anew after it has ended.
func (h *Hub) Start(ctx context.Context, listen string, args ...string) (err error) {
	urlFile := h.Path("hub", "hub.url")
	_ = os.Remove(urlFile) // a killed hub leaves it behind
	h.Process, err = h.Programs.Start(h.Path("hub.log"), "drover-hub",
		append([]string{"serve", "--data-dir", h.Path("hub"), "--listen", listen}, args...)...)
	if err != nil {
		return err
	}
	return Until(ctx, "the hub serves", startLimit, h.Process, func() (bool, error) {
		url, err := os.ReadFile(urlFile)
		if errors.Is(err, os.ErrNotExist) {
			return false, nil
		}
		h.URL = strings.TrimSpace(string(url))
		return err == nil, err
	})
}

// Drover runs the operator's command line against the hub.
func (h *Hub) Drover(ctx context.Context, args ...string) (string, error) {
	return h.Run(ctx, nil, "drover", append([]string{"--kubeconfig", h.Kubeconfig()}, args...)...)
}

// Token creates a join token and returns the file that holds it.
func (h *Hub) Token(ctx context.Context, cluster string, args ...string) (file string, err error) {
	text, err := h.Drover(ctx, append([]string{"token", "create", "--cluster", cluster}, args...)...)
	if err != nil {
		return "", err
	}
	file = h.Path(cluster + ".token")
	return file, os.WriteFile(file, []byte(text), 0o600)
}

// Join lets an agent join without a person.
func (h *Hub) Join(ctx context.Context, cluster string, args ...string) error {
	file, err := h.Token(ctx, cluster, "--auto-approve")
	if err != nil {
		return err
	}
	_, err = h.Run(ctx, nil, "drover-agent", append([]string{"join", "--token-file", file, "--state-dir", h.Path(cluster)}, args...)...)
	return err
}

// StartAgent runs the agent of a cluster that has joined.
func (h *Hub) StartAgent(cluster string, args ...string) (*Process, error) {
	return h.Programs.Start(h.Path(cluster+".log"), "drover-agent",
		append([]string{"run", "--state-dir", h.Path(cluster)}, args...)...)
}

// Available waits until the hub shows the cluster as available.
func (h *Hub) Available(ctx context.Context, cluster string, agent *Process) error {
	return Until(ctx, "cluster "+cluster+" is available", 2*time.Minute, agent, func() (bool, error) {
		out, err := h.Drover(ctx, "clusters", "-o", "json")
		if err != nil {
			return false, err
		}
		return availableIn(out, cluster)
	})
}
