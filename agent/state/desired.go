// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package state

import (
	"encoding/json"
	"errors"
	"io/fs"
	"path/filepath"

	"go.uber.org/zap"

	"github.com/drover-io/drover/shared/wire"
)

func (d *Dir) desiredFile() string { return filepath.Join(d.path, "desired.json") }

// Desired returns the desired state last saved, and the zero value when there
// is none. A damaged file counts as none, with a warning: the hub gives the
// state again on the next connect, and without it nothing is deleted.
func (d *Dir) Desired() (wire.Desired, error) {
	raw, err := readJSON(d.desiredFile(), "")
	var corrupt *CorruptError
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return wire.Desired{}, nil
	case errors.As(err, &corrupt):
		d.log.Warn("desired state on disk ignored, the hub will give it again", zap.Error(err))
		return wire.Desired{}, nil
	case err != nil:
		return wire.Desired{}, err
	}
	var desired wire.Desired
	if err := json.Unmarshal(raw, &desired); err != nil {
		d.log.Warn("desired state on disk ignored, the hub will give it again",
			zap.String("file", d.desiredFile()), zap.Error(err))
		return wire.Desired{}, nil
	}
	return desired, nil
}

// SaveDesired replaces the saved desired state.
func (d *Dir) SaveDesired(desired wire.Desired) error {
	return writeJSON(d.desiredFile(), desired)
}
