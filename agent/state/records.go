// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package state

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// record is the data of a file in records/. Its body belongs to the part of the
// agent that applies works; this package only keeps it safe.
type record struct {
	Key  string          `json:"key"`
	Body json.RawMessage `json:"body"`
}

const recordHint = "restore the file from a backup of the state dir, or remove it: the work is then applied anew, " +
	"and objects it had applied that it no longer names stay on the cluster"

// LoadRecords returns the body of every record by key. One damaged record fails
// the whole load with a *CorruptError: going on without it would forget which
// objects the agent owns.
func (d *Dir) LoadRecords() (map[string][]byte, error) {
	dir := filepath.Join(d.path, "records")
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("list records: %w", err)
	}
	records := make(map[string][]byte, len(entries))
	for _, entry := range entries {
		if strings.HasPrefix(entry.Name(), ".") || !strings.HasSuffix(entry.Name(), ".json") {
			continue
		}
		file := filepath.Join(dir, entry.Name())
		raw, err := readJSON(file, recordHint)
		if err != nil {
			return nil, err
		}
		var rec record
		if err := json.Unmarshal(raw, &rec); err != nil {
			return nil, corrupt(file, recordHint, err)
		}
		if recordName(rec.Key) != entry.Name() {
			return nil, corrupt(file, recordHint, errors.New("its key belongs to another file"))
		}
		records[rec.Key] = rec.Body
	}
	return records, nil
}

// SaveRecord replaces the record of key and returns when that survives a power cut.
// body must be JSON. Calls for one key come one after the other.
func (d *Dir) SaveRecord(key string, body []byte) error {
	if key == "" {
		return errors.New("save record: empty key")
	}
	name := "records/" + recordName(key)
	raw, err := encodeJSON(name, record{Key: key, Body: body})
	if err != nil {
		return err
	}
	return d.journal.put(entry{what: entryWrite, name: name, data: raw})
}

// DeleteRecord removes the record of key; a missing one is no error.
func (d *Dir) DeleteRecord(key string) error {
	name := "records/" + recordName(key)
	switch _, err := os.Lstat(filepath.Join(d.path, name)); {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("delete record: %w", err)
	}
	return d.journal.put(entry{what: entryRemove, name: name})
}

// recordName is readable for the usual keys, UIDs; any other key is hashed, so
// that a key from outside never names a path.
func recordName(key string) string {
	plain := len(key) <= 64 && strings.Trim(key, "0123456789abcdefghijklmnopqrstuvwxyz-") == ""
	if plain && key != "" {
		return key + ".json"
	}
	sum := sha256.Sum256([]byte(key))
	return "x" + hex.EncodeToString(sum[:16]) + ".json"
}
