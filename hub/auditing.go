// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package hub

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/drover-io/drover/hub/audit"
)

// Audit are the options of the audit log. File options are named as those of a
// kube-apiserver, and mean the same.
type Audit struct {
	// Keep is how long records are kept; zero means for ever.
	Keep time.Duration
	// PolicyFile is a Policy of audit.k8s.io/v1. Empty: metadata of every change.
	PolicyFile string
	// LogPath is a file that gets every record; empty for none. LogMaxSize in
	// megabytes, LogMaxBackup zero keeps all.
	LogPath                  string
	LogMaxSize, LogMaxBackup int
	// WebhookConfigFile is a kubeconfig of a server that gets every record.
	WebhookConfigFile string
}

// openAudit opens the log, and makes the sinks that it is copied to.
func (h *Hub) openAudit(ctx context.Context, js jetstream.JetStream) (*audit.Log, map[string]audit.Sink, error) {
	c := h.cfg.Audit
	opts := audit.Options{HeadFile: h.cfg.path("audit.head"), MaxAge: c.Keep, Log: h.log.Named("audit")}
	sinks := map[string]audit.Sink{}
	var err error
	if c.PolicyFile != "" {
		if opts.Policy, err = audit.LoadPolicy(c.PolicyFile); err != nil {
			return nil, nil, err
		}
	}
	if c.LogPath != "" {
		sinks["file"] = &audit.File{Path: c.LogPath, MaxBytes: int64(c.LogMaxSize) << 20, Keep: c.LogMaxBackup}
	}
	if c.WebhookConfigFile != "" {
		if sinks["webhook"], err = audit.NewWebhook(c.WebhookConfigFile); err != nil {
			return nil, nil, err
		}
	}
	log, err := audit.Open(ctx, js, opts)
	if err != nil {
		return nil, nil, fmt.Errorf("open audit log: %w", err)
	}
	return log, sinks, nil
}
