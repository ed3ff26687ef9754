// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package backup

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/drover-io/drover/hub/broker"
	"github.com/drover-io/drover/hub/store"
	"github.com/drover-io/drover/pki/ca"
	"github.com/drover-io/drover/shared/apis/fleet"
	"github.com/drover-io/drover/shared/daemon"
	"github.com/drover-io/drover/shared/durable"
)

const (
	// stageDir holds a restore that is under way. As long as it is there, no hub
	// starts on the data dir.
	stageDir = ".restoring"
	// restoredFile tells the hub that it was restored, and when.
	restoredFile = "restored.json"

	// AdoptFor is how long after a restore a hub may take over an agent's
	// certificate that it does not know but that is newer than the one it does.
	AdoptFor = 7 * 24 * time.Hour

	// revisionsPerSecond is more than a hub can give: see firstRevision.
	revisionsPerSecond = 100_000
	revisionGap        = 1_000_000_000
)

// Restored is what a hub should know about its own past.
type Restored struct {
	RestoredAt time.Time `json:"restoredAt"`
	BackupTime time.Time `json:"backupTime"`
	AdoptUntil time.Time `json:"adoptUntil"`
}

// Result of a restore.
type Result struct {
	Manifest
	Tokens  int    // join tokens that are void now
	Expired int    // records of the CA that have ended since the backup
	First   uint64 // revisions from here on were never given before
}

// ReadRestored says when and of what the hub was restored; zero: it never was.
func ReadRestored(dataDir string) (Restored, error) {
	path := filepath.Join(dataDir, restoredFile)
	var r Restored
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return r, nil
	}
	if err == nil {
		err = json.Unmarshal(text, &r)
	}
	if err != nil {
		return Restored{}, daemon.Hint(fmt.Errorf("read %s: %w", path, reason(err)),
			"remove the file if the restore is more than a week ago")
	}
	return r, nil
}

// CheckDir refuses a data dir in which a restore did not come to its end.
func CheckDir(dataDir string) error {
	if _, err := os.Lstat(filepath.Join(dataDir, stageDir)); err == nil {
		return daemon.Hint(fmt.Errorf("data dir %s: a restore is under way or was interrupted", dataDir),
			"wait for its end, or remove everything in that directory, %s included, and restore again", stageDir)
	}
	return nil
}

// firstRevision is beyond every revision that any hub with this history can have
// given: not only up to the backup, but also between the backup and the loss, and
// by a hub that was restored from the same backup before. How many those were
// nobody knows any more. So revisions follow the clock from here on, at a pace no
// hub keeps up with. They stay far below 2^53, which JavaScript needs.
func firstRevision(m Manifest, now time.Time) uint64 {
	return max(m.Revision+revisionGap, uint64(now.Unix())*revisionsPerSecond) //nolint:gosec // Restore refuses a clock before the backup's time
}

// Restore makes dataDir of a backup. dataDir is created, or must be empty. The
// whole file is verified before anything is written, and the data dir is usable
// only when Restore has succeeded; after an error it is as it was.
//
// Join tokens are void, since nobody knows which of them were used since the
// backup. Revisions and the identity of the store are new, so that no watch
// continues from what is lost.
func Restore(ctx context.Context, file *os.File, dataDir string, now time.Time) (Result, error) {
	m, err := Verify(file)
	if err != nil {
		return Result{}, fmt.Errorf("%s: %w", file.Name(), err)
	}
	if now.Before(m.Time) {
		return Result{}, daemon.Hint(fmt.Errorf("this machine's clock (%s) is before the time of the backup (%s)",
			now.UTC().Format(time.RFC3339), m.Time.Format(time.RFC3339)), "set the clock first: new revisions are made of it")
	}
	s, err := newStage(dataDir)
	if err != nil {
		return Result{}, err
	}
	r := &restore{stage: s, result: Result{Manifest: m, First: firstRevision(m, now)}, now: now}
	if err := r.fill(ctx, file); err != nil {
		return Result{}, errors.Join(fmt.Errorf("restore %s: %w", file.Name(), err), s.undo())
	}
	return r.result, s.finish()
}

// restore fills a stage.
type restore struct {
	stage  *stage
	result Result
	now    time.Time

	store   *store.Store
	kv      jetstream.KeyValue
	js      jetstream.JetStream
	bundles jetstream.ObjectStore
	tokens  []string
}

func (r *restore) fill(ctx context.Context, file io.ReadSeeker) (err error) {
	// The small files come first: the broker needs its keys.
	if err := r.pass(file, r.writeFile); err != nil {
		return err
	}
	b, err := broker.Open(broker.Config{Dir: r.stage.path(natsDir)})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	js := b.JetStream()
	r.js = js
	if _, err := js.CreateOrUpdateStream(ctx, broker.AuditConfig(0, 0)); err != nil {
		return err
	}
	if r.store, err = store.Open(ctx, js, store.Options{Dir: r.stage.dir, After: r.result.First}); err != nil {
		return err
	}
	if r.kv, err = js.CreateOrUpdateKeyValue(ctx, ca.BucketConfig()); err != nil {
		return err
	}
	if r.bundles, err = js.CreateOrUpdateObjectStore(ctx, broker.BundleConfig(0)); err != nil {
		return err
	}
	err = r.pass(file, func(name string, data []byte) error {
		switch {
		case isBundle(name):
			return r.bundle(ctx, name, data)
		case strings.HasPrefix(name, objectsPrefix):
			return r.objects(ctx, data)
		case strings.HasPrefix(name, recordsPrefix):
			return records(data, func(rec record) error { return r.certificate(ctx, rec) })
		case strings.HasPrefix(name, auditPrefix):
			return records(data, func(rec record) error { return r.audit(ctx, rec) })
		}
		return nil
	})
	if err != nil {
		return err
	}
	tokens := store.Of[fleet.JoinToken](r.store, fleet.ResourceJoinTokens)
	for _, name := range r.tokens {
		_, err := tokens.Update(ctx, "", name, func(t *fleet.JoinToken) error {
			if !t.Spec.Revoked {
				r.result.Tokens++
			}
			t.Spec.Revoked = true
			return nil
		})
		if err != nil {
			return err
		}
	}
	text, err := json.MarshalIndent(Restored{
		RestoredAt: r.now.UTC().Truncate(time.Second), BackupTime: r.result.Time,
		AdoptUntil: r.now.Add(AdoptFor).UTC().Truncate(time.Second),
	}, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(r.stage.path(restoredFile), append(text, '\n'), 0o600)
}

// pass reads the file from its start and gives each member to f once it is known
// to be what was verified before.
func (r *restore) pass(file io.ReadSeeker, f func(name string, data []byte) error) error {
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return err
	}
	i := 0
	_, err := scan(file, func(name string, data []byte) error {
		if i >= len(r.result.Members) || r.result.Members[i] != (Member{Name: name, Size: int64(len(data)), SHA256: sum(data)}) {
			return errors.New("the file changed while it was read")
		}
		i++
		return f(name, data)
	})
	return err
}

func (r *restore) writeFile(name string, data []byte) error {
	if folder, _, _ := strings.Cut(name, "/"); folder != pkiDir && folder != natsDir {
		return nil
	}
	mode := fs.FileMode(0o600)
	if strings.HasSuffix(name, ".crt") {
		mode = 0o644
	}
	path := r.stage.path(filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	return os.WriteFile(path, data, mode)
}

func (r *restore) objects(ctx context.Context, data []byte) error {
	var batch []store.Write
	flush := func() error {
		_, err := r.store.Batch(ctx, batch)
		batch = batch[:0]
		return err
	}
	err := records(data, func(rec record) error {
		batch = append(batch, store.Write{
			Key: store.Key{Resource: rec.Resource, Namespace: rec.Namespace, Name: rec.Name}, Data: rec.data,
		})
		if rec.Resource == fleet.ResourceJoinTokens {
			r.tokens = append(r.tokens, rec.Name)
		}
		if len(batch) < store.MaxBatch {
			return nil
		}
		return flush()
	})
	if err != nil {
		return err
	}
	return flush()
}

func (r *restore) certificate(ctx context.Context, rec record) error {
	var options []jetstream.KVCreateOpt
	if rec.Expires != nil {
		left := rec.Expires.Sub(r.now).Truncate(time.Second)
		if left <= 0 {
			r.result.Expired++
			return nil
		}
		options = append(options, jetstream.KeyTTL(left))
	}
	if _, err := r.kv.Create(ctx, rec.Name, rec.data, options...); err != nil {
		return fmt.Errorf("record %q: %w", rec.Name, err)
	}
	return nil
}

// stage is a data dir in the making, inside the real one: a data dir is often
// the root of a mounted file system, which nothing can be renamed over.
type stage struct {
	home, dir string
	created   bool // home was
	owner     *syscall.Stat_t
}

func newStage(home string) (*stage, error) {
	s := &stage{home: filepath.Clean(home)}
	s.dir = filepath.Join(s.home, stageDir)
	err := os.Mkdir(s.home, 0o700)
	s.created = err == nil
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, daemon.Hint(fmt.Errorf("data dir %s: %w", home, reason(err)), "choose another with --data-dir, or make its parent writable for this user")
	}
	if err := CheckDir(s.home); err != nil {
		return nil, err
	}
	if err := s.empty(); err != nil {
		return nil, err
	}
	if err := os.Mkdir(s.dir, 0o700); err != nil {
		return nil, daemon.Hint(fmt.Errorf("data dir %s: %w", home, reason(err)), "choose another with --data-dir, or make it writable for this user")
	}
	// A hub may have been started meanwhile. From here on it refuses.
	if err := s.empty(); err != nil {
		return nil, errors.Join(err, os.Remove(s.dir))
	}
	if st, err := os.Stat(s.home); err == nil && !s.created {
		s.owner, _ = st.Sys().(*syscall.Stat_t)
	}
	return s, nil
}

func (s *stage) path(elem string) string { return filepath.Join(s.dir, elem) }

// empty refuses a home that holds anything but the stage and what the file system
// itself put there.
func (s *stage) empty() error {
	entries, err := os.ReadDir(s.home)
	if err != nil {
		return daemon.Hint(fmt.Errorf("data dir %s: %w", s.home, reason(err)), "name a directory that is empty, or does not exist yet, with --data-dir")
	}
	for _, e := range entries {
		if e.Name() == stageDir || e.Name() == "lost+found" {
			continue
		}
		if running(s.home) {
			return daemon.Hint(fmt.Errorf("a hub runs on data dir %s", s.home), "stop it, and move its directory away; nothing was changed")
		}
		return daemon.Hint(fmt.Errorf("data dir %s is not empty", s.home), "name an empty directory with --data-dir, or move the old one away; nothing was changed")
	}
	return nil
}

// undo leaves home as it was found.
func (s *stage) undo() error {
	err := os.RemoveAll(s.dir)
	if err == nil && s.created {
		err = os.Remove(s.home)
	}
	return err
}

// finish moves all that was made to its place. A hub starts only after that.
func (s *stage) finish() error {
	if err := s.settle(); err != nil {
		return errors.Join(fmt.Errorf("data dir %s: %w", s.home, err), s.undo())
	}
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return errors.Join(err, s.undo())
	}
	for _, e := range entries {
		if err := os.Rename(s.path(e.Name()), filepath.Join(s.home, e.Name())); err != nil {
			return daemon.Hint(err, "remove everything in %s and restore again", s.home)
		}
	}
	if err := errors.Join(durable.SyncDir(s.home), durable.SyncDir(s.dir)); err != nil {
		return err
	}
	if err := os.Remove(s.dir); err != nil {
		return err
	}
	if s.created {
		if err := durable.SyncDir(filepath.Dir(s.home)); err != nil {
			return err
		}
	}
	return durable.SyncDir(s.home)
}

// settle writes everything through to the disk. What root restores into the
// directory of the hub's own user becomes that user's.
func (s *stage) settle() error {
	return filepath.WalkDir(s.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if s.owner != nil && os.Geteuid() == 0 && s.owner.Uid != 0 {
			if err := os.Lchown(path, int(s.owner.Uid), int(s.owner.Gid)); err != nil {
				return err
			}
		}
		return durable.SyncDir(path) // of a file it does the same
	})
}

// reason strips the path, which the caller names already.
func reason(err error) error {
	var path *fs.PathError
	if errors.As(err, &path) {
		return path.Err
	}
	return err
}
