// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/drover-io/drover/shared/durable"
)

// head is the last record of a chain; the zero value is the head of an empty one.
type head struct {
	Sequence uint64 `json:"sequence"`
	Hash     string `json:"hash"`
}

// line is a record as it is stored: one line of a message.
type line struct {
	Sequence uint64          `json:"sequence"`
	Previous string          `json:"previous"` // hash of the record before, hex; empty for the first
	Hash     string          `json:"hash"`     // hex
	Event    json.RawMessage `json:"event"`
}

// digest of a record: SHA-256 over its sequence in decimal, the previous hash in
// hex, each ended by a newline, and the bytes of the event.
func digest(sequence uint64, previous string, event []byte) string {
	h := sha256.New()
	fmt.Fprintf(h, "%d\n%s\n", sequence, previous)
	h.Write(event)
	return hex.EncodeToString(h.Sum(nil))
}

// appendRecord adds the record that follows after, and returns the new head.
func appendRecord(dst []byte, after head, event []byte) ([]byte, head) {
	next := head{Sequence: after.Sequence + 1}
	next.Hash = digest(next.Sequence, after.Hash, event)
	return appendLine(dst, line{next.Sequence, after.Hash, next.Hash, event}), next
}

func appendLine(dst []byte, l line) []byte {
	dst = fmt.Appendf(dst, `{"sequence":%d,"previous":"%s","hash":"%s","event":`, l.Sequence, l.Previous, l.Hash)
	dst = append(dst, l.Event...)
	return append(dst, '}', '\n')
}

// parseLine reads a record and checks what it says about itself.
func parseLine(text []byte) (line, error) {
	var l line
	if err := json.Unmarshal(text, &l); err != nil {
		return l, fmt.Errorf("not a record: %w", err)
	}
	// Go reads JSON generously; a record has one spelling.
	if !bytes.Equal(appendLine(nil, l), append(bytes.Clone(text), '\n')) {
		return l, errors.New("the record is not spelled as it was written")
	}
	if digest(l.Sequence, l.Previous, l.Event) != l.Hash {
		return l, errors.New("the record does not match its hash")
	}
	return l, nil
}

// lines splits a message into the texts of its records.
func lines(data []byte) [][]byte {
	if len(data) == 0 {
		return nil
	}
	return bytes.Split(bytes.TrimSuffix(data, []byte("\n")), []byte("\n"))
}

// lastOf is the head after a message.
func lastOf(data []byte) (head, error) {
	all := lines(data)
	if len(all) == 0 {
		return head{}, errors.New("an empty message")
	}
	l, err := parseLine(all[len(all)-1])
	return head{l.Sequence, l.Hash}, err
}

// readHead reads the head file; a missing one, or none, is the zero value.
func readHead(path string) (head, error) {
	var h head
	if path == "" {
		return h, nil
	}
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return h, nil
	}
	if err != nil {
		return h, err
	}
	if err := json.Unmarshal(data, &h); err != nil {
		return head{}, fmt.Errorf("%s: %w", path, err)
	}
	return h, nil
}

func writeHead(path string, h head) error {
	data, err := json.Marshal(h)
	if err != nil {
		return err
	}
	return durable.WriteFile(path, append(data, '\n'), 0o600)
}
