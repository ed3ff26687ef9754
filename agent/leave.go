// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/drover-io/drover/agent/state"
	"github.com/drover-io/drover/pki/identity"
	"github.com/drover-io/drover/shared/daemon"
)

// Leave gives up the identity in cfg.StateDir. Records of what was applied stay
// there, so that joining the same hub again goes on where it was.
func Leave(cfg Config) error {
	dir, err := state.Open(cfg.StateDir, cfg.Log)
	if errors.Is(err, state.ErrInUse) {
		return daemon.Hint(err, "stop the agent first")
	}
	if err != nil {
		return err
	}
	defer dir.Close()
	if err := identity.NewFiles(cfg.identityDir()).Remove(); err != nil {
		return fmt.Errorf("remove identity: %w", err)
	}
	if err := os.Remove(cfg.homeFile()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove identity: %w", err)
	}
	return nil
}
