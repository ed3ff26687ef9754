// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/drover-io/drover/hub/broker"
	"github.com/drover-io/drover/hub/store"
	"github.com/drover-io/drover/shared/daemon"
	"github.com/drover-io/drover/shared/durable"
)

// Save writes a backup of the hub with that data dir to file, with mode 0600: by
// asking the hub if it runs, else from the directory. The file appears only when
// it is whole and was read back. An existing one is replaced only with force.
func Save(ctx context.Context, dataDir, file string, force bool) (m Manifest, err error) {
	if st, err := os.Stat(file); err == nil && (!force || !st.Mode().IsRegular()) {
		return Manifest{}, daemon.Hint(fmt.Errorf("%s exists already", file), "choose another name, or overwrite a file with --force")
	}
	if err := CheckDir(dataDir); err != nil {
		return Manifest{}, err
	}
	for _, name := range []string{filepath.Join(pkiDir, "intermediate.crt"), filepath.Join(natsDir, broker.KeysFile)} {
		_, err := os.Stat(filepath.Join(dataDir, name))
		if errors.Is(err, fs.ErrNotExist) {
			return Manifest{}, daemon.Hint(fmt.Errorf("data dir %s: there is no hub in it: %s is missing", dataDir, name), "name the hub's directory with --data-dir")
		}
		if err != nil {
			return Manifest{}, daemon.Hint(fmt.Errorf("data dir %s: %w", dataDir, err), "use the user that the hub runs as")
		}
	}
	f, err := os.CreateTemp(filepath.Dir(file), "."+filepath.Base(file)+".tmp-*") // mode 0600
	if err != nil {
		return Manifest{}, daemon.Hint(fmt.Errorf("write %s: %w", file, reason(err)), "choose a directory that this user can write")
	}
	defer func() {
		f.Close() //nolint:errcheck // closed before where it matters
		if err != nil {
			os.Remove(f.Name())
		}
	}()
	err = ask(ctx, dataDir, f)
	if errors.Is(err, errNotRunning) {
		err = offline(ctx, dataDir, f)
	}
	if err != nil {
		return Manifest{}, err
	}
	if err := f.Sync(); err != nil {
		return Manifest{}, fmt.Errorf("write %s: %w", file, reason(err))
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return Manifest{}, err
	}
	if m, err = Verify(f); err != nil {
		return Manifest{}, fmt.Errorf("read %s back: %w", file, err)
	}
	if err := f.Close(); err != nil {
		return Manifest{}, fmt.Errorf("write %s: %w", file, reason(err))
	}
	if err := os.Rename(f.Name(), file); err != nil {
		return Manifest{}, err
	}
	return m, durable.SyncDir(filepath.Dir(file))
}

// offline reads the data dir of a hub that does not run. It holds the lock that
// a hub would hold, so none can start meanwhile.
func offline(ctx context.Context, dataDir string, w io.Writer) (err error) {
	b, err := broker.Open(broker.Config{Dir: filepath.Join(dataDir, natsDir)})
	if err != nil {
		return daemon.Hint(err, "a hub that runs is asked through %s, which does not answer; it may be starting, or run as another user", socketPath(dataDir))
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	s, err := store.Open(ctx, b.JetStream(), store.Options{Dir: dataDir})
	if err != nil {
		return err
	}
	_, err = Source{DataDir: dataDir, Store: s, JetStream: b.JetStream()}.Write(ctx, w)
	return err
}
