// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package hub

import (
	"context"
	"strings"

	"github.com/drover-io/drover/hub/backup"
)

// serveBackups gives backups to who may read the data dir, until ctx ends.
func (h *Hub) serveBackups(ctx context.Context, p *parts) error {
	return backup.Source{
		DataDir: h.cfg.DataDir, Store: p.store, JetStream: p.broker.JetStream(),
		Settings: map[string]string{"listen": p.listener.Addr().String(), "advertise": strings.Join(p.urls, ",")},
	}.Serve(ctx, h.log.Named("backup"))
}
