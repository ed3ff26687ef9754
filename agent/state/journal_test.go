// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package state

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"
)

func openDir(t *testing.T, path string) *Dir {
	t.Helper()
	d, err := Open(path, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

// TestJournalAfterPowerCut: with the files as a power cut may leave them, empty or
// gone, all that was acknowledged is there, and what was removed is not.
func TestJournalAfterPowerCut(t *testing.T) {
	t.Parallel()
	path := t.TempDir()
	d := openDir(t, path)
	want := map[string][]byte{}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for i := range 40 {
		wg.Go(func() {
			key := fmt.Sprint("w", i)
			for n := range 3 {
				body := fmt.Appendf(nil, `{"n":%d}`, n)
				if err := d.SaveRecord(key, body); err != nil {
					t.Error(err)
				}
				mu.Lock()
				want[key] = body
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	content := []byte("some content")
	digest := Digest(content)
	if err := d.PutContent(digest, content); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"w7", "none"} {
		if err := d.DeleteRecord(key); err != nil {
			t.Fatal(err)
		}
		delete(want, key)
	}
	journal, err := os.ReadFile(filepath.Join(path, journalName))
	if err != nil {
		t.Fatal(err)
	}
	cut := t.TempDir()
	for _, dir := range []string{"records", "content"} {
		if err := os.Mkdir(filepath.Join(cut, dir), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for name, data := range map[string][]byte{
		journalName:                append(journal, journal[len(journalHead):len(journalHead)+20]...), // torn
		"records/w1.json":          nil,
		"records/w7.json":          []byte(`{"version":1,"data":{"key":"w7","body":{}}}`),
		"records/.w2.json.tmp-123": nil,
	} {
		if err := os.WriteFile(filepath.Join(cut, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 { // the second time from the files alone
		d := openDir(t, cut)
		got, err := d.LoadRecords()
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("%v %s", err, diff)
		}
		if got, err := d.Content(digest); err != nil || !bytes.Equal(got, content) {
			t.Errorf("content %q, %v", got, err)
		}
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
		if left, err := os.ReadFile(filepath.Join(cut, journalName)); err != nil || string(left) != journalHead {
			t.Errorf("the journal holds %d bytes, %v", len(left), err)
		}
	}
}

// TestJournalCheckpoint: a journal stays small, and nothing is lost by that.
func TestJournalCheckpoint(t *testing.T) {
	t.Parallel()
	path := t.TempDir()
	d := openDir(t, path)
	d.journal.limit = 2000
	for i := range 200 {
		if err := d.SaveRecord(fmt.Sprint("w", i%20), fmt.Appendf(nil, `{"n":%d}`, i)); err != nil {
			t.Fatal(err)
		}
	}
	if d.journal.size > 3000 {
		t.Errorf("the journal has %d bytes", d.journal.size)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	records, err := openDir(t, path).LoadRecords()
	if err != nil || len(records) != 20 || string(records["w19"]) != `{"n":199}` {
		t.Errorf("%d records, %s, %v", len(records), records["w19"], err)
	}
}

func TestForeignJournal(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, text string
		refused    bool
	}{
		{"empty", "", false},
		{"cut in the head", journalHead[:5], false},
		{"newer", journalKind + "9\n", true},
		{"something else", "PNG and what follows, quite long", true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			path := t.TempDir()
			if err := os.WriteFile(filepath.Join(path, journalName), []byte(tc.text), 0o600); err != nil {
				t.Fatal(err)
			}
			d, err := Open(path, zap.NewNop())
			var corrupt *CorruptError
			if tc.refused != errors.As(err, &corrupt) || tc.refused == (err == nil) {
				t.Fatalf("%v", err)
			}
			if d != nil {
				d.Close()
			}
		})
	}
}

func FuzzParseEntry(f *testing.F) {
	for _, e := range []entry{{entryWrite, "records/a.json", []byte("{}")}, {entryRemove, "content/ab", nil}, {entryWrite, "records/../x", nil}} {
		var b bytes.Buffer
		e.appendTo(&b)
		f.Add(b.Bytes())
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		e, n, ok := parseEntry(data)
		if !ok {
			return
		}
		dir, base := filepath.Split(filepath.Clean(e.name))
		if (dir != "records/" && dir != "content/") || base == "" || n > len(data) {
			t.Errorf("%q, %d of %d bytes", e.name, n, len(data))
		}
		var b bytes.Buffer
		if e.appendTo(&b); !bytes.Equal(b.Bytes(), data[:n]) {
			t.Error("not the same again")
		}
	})
}
