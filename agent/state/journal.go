// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package state

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/drover-io/drover/shared/daemon"
	"github.com/drover-io/drover/shared/durable"
)

// journal makes many small writes durable with one sync: those of a moment share
// it. A file below the state dir is replaced without a sync of its own once the
// journal holds the new content, and what the journal holds is written again when
// the directory is opened. So the files are what they are without a journal, but
// for the moment after a power cut.
//
// Layout: the line journalHead, then entries: length of the rest and its CRC-32C,
// four bytes each, big-endian; a byte for what is done; length of the name, two
// bytes; the name below the state dir; the content. The first entry that is not
// whole is the end: nobody was told that it was safe.
type journal struct {
	dir   string
	file  *os.File
	limit int64 // bytes from which on the files are synced and the journal emptied

	mu      sync.Mutex
	waiting bytes.Buffer
	next    *batch // of waiting
	writing bool
	ended   chan struct{}   // closed when the present writing has ended
	dirty   map[string]bool // files that changed and are not synced

	// Only who writes uses these.
	size   int64
	broken error
}

// batch is what one sync made durable, or did not.
type batch struct {
	done chan struct{}
	todo []entry // once the journal holds them
	err  error
}

const (
	journalName  = "journal"
	journalKind  = "drover-agent journal "
	journalHead  = journalKind + "1\n"
	journalLimit = 4 << 20
	// maxWaiting is how many bytes may wait in memory for the next sync.
	maxWaiting = 1 << 20
	// maxEntry is larger than any record or content that goes through the journal.
	maxEntry = 64 << 20
	// parallelSyncs of files; the file system makes one of those of a moment.
	parallelSyncs = 16

	entryWrite  = 'w'
	entryRemove = 'r'
	entryRest   = 8 // bytes before what the length counts
)

func castagnoli() *crc32.Table { return crc32.MakeTable(crc32.Castagnoli) }

// openJournal writes again what an earlier journal holds.
func openJournal(dir string, log *zap.Logger) (*journal, error) {
	path := filepath.Join(dir, journalName)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, fileMode)
	if err != nil {
		return nil, fmt.Errorf("open journal of state dir: %w", err)
	}
	j := &journal{dir: dir, file: f, limit: journalLimit, dirty: map[string]bool{}}
	if err := j.replay(log); err != nil {
		f.Close()
		return nil, err
	}
	return j, nil
}

func (j *journal) replay(log *zap.Logger) error {
	data, err := io.ReadAll(j.file)
	if err != nil {
		return fmt.Errorf("read journal of state dir: %w", err)
	}
	rest, ok := bytes.CutPrefix(data, []byte(journalHead))
	switch {
	case ok && len(rest) == 0:
		j.size = int64(len(data))
		return nil
	case ok:
	case bytes.HasPrefix(data, []byte(journalKind)):
		return daemon.Hint(&CorruptError{File: j.file.Name(), Err: errors.New("its format is newer than this agent knows")},
			"run the agent version that wrote this state dir, or a newer one")
	case !bytes.HasPrefix([]byte(journalHead), data): // else it is new
		return corrupt(j.file.Name(), "restore the state dir from a backup, or remove the file: what was written last before the agent ended may then be missing",
			errors.New("it does not begin as a journal does"))
	}
	for len(rest) > 0 {
		e, n, ok := parseEntry(rest)
		if !ok {
			log.Warn("the end of the journal was not written whole: ignored", zap.String("file", j.file.Name()), zap.Int("bytes", len(rest)))
			break
		}
		if err := j.act(e); err != nil {
			return fmt.Errorf("write what the journal holds: %w", err)
		}
		rest = rest[n:]
	}
	return errors.Join(j.checkpoint(), durable.SyncDir(j.dir))
}

// entry is one thing to do.
type entry struct {
	what byte
	name string
	data []byte
}

func (e entry) appendTo(b *bytes.Buffer) {
	body := make([]byte, 0, 3+len(e.name)+len(e.data))
	body = append(body, e.what)
	body = binary.BigEndian.AppendUint16(body, uint16(len(e.name))) //nolint:gosec // a name below the state dir
	body = append(body, e.name...)
	body = append(body, e.data...)
	var head [entryRest]byte
	binary.BigEndian.PutUint32(head[:], uint32(len(body))) //nolint:gosec // at most maxEntry
	binary.BigEndian.PutUint32(head[4:], crc32.Checksum(body, castagnoli()))
	b.Write(head[:])
	b.Write(body)
}

// parseEntry reads the first entry of data, n bytes, if it is whole.
func parseEntry(data []byte) (e entry, n int, ok bool) {
	if len(data) < entryRest+3 {
		return entry{}, 0, false
	}
	size := int(binary.BigEndian.Uint32(data))
	if size < 3 || size > maxEntry || size > len(data)-entryRest {
		return entry{}, 0, false
	}
	body := data[entryRest : entryRest+size]
	if crc32.Checksum(body, castagnoli()) != binary.BigEndian.Uint32(data[4:]) {
		return entry{}, 0, false
	}
	length := int(binary.BigEndian.Uint16(body[1:]))
	if length > size-3 {
		return entry{}, 0, false
	}
	e = entry{what: body[0], name: string(body[3 : 3+length]), data: body[3+length:]}
	dir, base := filepath.Split(e.name)
	known := (dir == "records/" || dir == "content/") && base != "" && !strings.HasPrefix(base, ".")
	if !known || (e.what != entryWrite && e.what != entryRemove) {
		return entry{}, 0, false
	}
	return e, entryRest + size, true
}

// act replaces or removes the file that an entry names, without a sync.
func (j *journal) act(e entry) error {
	path := filepath.Join(j.dir, e.name)
	if e.what == entryRemove {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		j.changed(e.name)
		return nil
	}
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".tmp-*") // with fileMode
	if err != nil {
		return err
	}
	_, err = f.Write(e.data)
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	j.changed(e.name)
	return nil
}

func (j *journal) changed(name string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.dirty[name] = true
}

// put does e, and returns when that survives a power cut.
//
// Calls for one name come one after the other.
func (j *journal) put(e entry) error {
	if len(e.data) > maxEntry-1024 {
		return fmt.Errorf("write %s: larger than a file here can be", e.name)
	}
	j.mu.Lock()
	mine := j.join(e)
	mine.todo = append(mine.todo, e)
	j.mu.Unlock()
	return j.commit(mine)
}

// add is put for a new file that can be lost: it returns at once, and the file
// survives together with what is put afterwards.
func (j *journal) add(e entry) error {
	if err := j.act(e); err != nil {
		return fmt.Errorf("write %s: %w", filepath.Join(j.dir, e.name), err)
	}
	j.mu.Lock()
	mine, much := j.join(e), j.waiting.Len() > maxWaiting
	j.mu.Unlock()
	if much {
		return j.commit(mine)
	}
	return nil
}

// join adds e to what is written next. It needs mu.
func (j *journal) join(e entry) *batch {
	e.appendTo(&j.waiting)
	if j.next == nil {
		j.next = &batch{done: make(chan struct{})}
	}
	return j.next
}

// commit returns when a batch is durable and done. Who comes while nobody writes
// does so for all that wait.
func (j *journal) commit(mine *batch) error {
	for {
		j.mu.Lock()
		select {
		case <-mine.done:
			j.mu.Unlock()
			return mine.err
		default:
		}
		if !j.writing {
			j.lead()
			continue
		}
		ended := j.ended
		j.mu.Unlock()
		select {
		case <-mine.done:
		case <-ended:
		}
	}
}

// lead writes what waits, as one. It is called with mu and returns without.
func (j *journal) lead() {
	data, b, ended := bytes.Clone(j.waiting.Bytes()), j.next, make(chan struct{})
	j.waiting.Reset()
	j.next, j.writing, j.ended = nil, true, ended
	j.mu.Unlock()
	if b.err = j.write(data); b.err == nil {
		for _, e := range b.todo {
			b.err = errors.Join(b.err, j.act(e))
		}
	}
	close(b.done)
	j.mu.Lock()
	j.writing = false
	close(ended)
	j.mu.Unlock()
}

// write appends data and syncs. Only who leads calls it.
func (j *journal) write(data []byte) error {
	if j.broken != nil {
		return j.broken
	}
	if j.size > j.limit {
		if err := j.checkpoint(); err != nil {
			return err
		}
	}
	_, err := j.file.WriteAt(data, j.size)
	if err == nil {
		err = j.file.Sync()
	}
	if err == nil {
		j.size += int64(len(data))
		return nil
	}
	// Nothing of it may count, whatever reached the disk.
	if undo := errors.Join(j.file.Truncate(j.size), j.file.Sync()); undo != nil {
		j.broken = fmt.Errorf("the journal of the state dir cannot be written any more, start the agent anew: %w", errors.Join(err, undo))
	}
	return fmt.Errorf("write journal of state dir: %w", err)
}

// checkpoint syncs the files that changed and empties the journal. Only who leads
// calls it, and openJournal.
func (j *journal) checkpoint() error {
	j.mu.Lock()
	dirty := j.dirty
	j.dirty = map[string]bool{}
	j.mu.Unlock()
	err := j.syncFiles(dirty)
	if err == nil {
		err = j.file.Truncate(0)
	}
	if err == nil {
		_, err = j.file.WriteAt([]byte(journalHead), 0)
	}
	if err == nil {
		err = j.file.Sync()
	}
	if err != nil {
		j.mu.Lock()
		for name := range dirty {
			j.dirty[name] = true
		}
		j.mu.Unlock()
		return fmt.Errorf("empty the journal: %w", err)
	}
	j.size = int64(len(journalHead))
	return nil
}

func (j *journal) syncFiles(dirty map[string]bool) error {
	dirs := map[string]bool{}
	var g errgroup.Group
	g.SetLimit(parallelSyncs)
	for name := range dirty {
		path := filepath.Join(j.dir, name)
		dirs[filepath.Dir(path)] = true
		g.Go(func() error {
			f, err := os.Open(path)
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			if err != nil {
				return err
			}
			return errors.Join(f.Sync(), f.Close())
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	for dir := range dirs {
		if err := durable.SyncDir(dir); err != nil {
			return err
		}
	}
	return nil
}

// close leaves the files durable and the journal empty. Nothing is put any more.
func (j *journal) close() error {
	var err error
	if len(j.dirty) > 0 {
		err = j.checkpoint()
	}
	return errors.Join(err, j.file.Close())
}
