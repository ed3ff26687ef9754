// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package state

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
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

func (d *Dir) signedFile() string { return filepath.Join(d.path, "desired-signed.json") }

// signedList is the body of the signed file.
type signedList struct {
	Pages []wire.Envelope `json:"pages"`
}

// SignedDesired returns the pages of the signed list last saved, none when there
// is none, and the file they are in. They are as they lie on the disk: the caller
// checks the signatures. A damaged file counts as none, with a warning.
func (d *Dir) SignedDesired() (pages []wire.Envelope, file string, err error) {
	file = d.signedFile()
	raw, err := readJSON(file, "")
	var corrupt *CorruptError
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, file, nil
	case errors.As(err, &corrupt):
		d.log.Warn("signed list on disk ignored, the hub will give it again", zap.Error(err))
		return nil, file, nil
	case err != nil:
		return nil, file, err
	}
	var list signedList
	if err := json.Unmarshal(raw, &list); err != nil {
		d.log.Warn("signed list on disk ignored, the hub will give it again", zap.String("file", file), zap.Error(err))
		return nil, file, nil
	}
	return list.Pages, file, nil
}

// SaveSignedDesired replaces the saved signed list, and removes an unsigned one of
// an older hub, which must not come back.
func (d *Dir) SaveSignedDesired(pages []wire.Envelope) error {
	if err := writeJSON(d.signedFile(), signedList{Pages: pages}); err != nil {
		return err
	}
	if err := os.Remove(d.desiredFile()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
