// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package backup

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Names of members.
const (
	manifestName  = "manifest.json"
	objectsPrefix = "objects/"
	recordsPrefix = "certificates/"
	bundlesPrefix = "bundles/"
	auditPrefix   = "audit/"

	// chunkSize is what one member with records holds before the next is begun.
	chunkSize = 8 << 20
	// maxRecord bounds one record with its header line: what the broker takes.
	maxRecord = 2 << 20
	// maxMember and maxMembers bound what is read of a file that anybody made.
	maxMember  = chunkSize + maxRecord
	maxBundle  = 34 << 20 // one packed bundle, a member of its own
	maxMembers = 100_000
)

var memberRE = regexp.MustCompile(`^(manifest\.json|nats/keys\.json|pki/[a-z0-9][a-z0-9.-]{0,63}|(objects|certificates|audit)/[0-9]{6}|bundles/[0-9a-f]{64})$`)

// archive writes members and keeps their sums.
type archive struct {
	tar     *tar.Writer
	time    time.Time
	members []Member
}

func (a *archive) add(name string, data []byte) error {
	if !memberRE.MatchString(name) || int64(len(data)) > sizeLimit(name) {
		return fmt.Errorf("%s (%d bytes) does not fit into a backup", name, len(data))
	}
	err := a.tar.WriteHeader(&tar.Header{
		Typeflag: tar.TypeReg, Name: name, Size: int64(len(data)), Mode: 0o600, ModTime: a.time, Format: tar.FormatUSTAR,
	})
	if err == nil {
		_, err = a.tar.Write(data)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	a.members = append(a.members, Member{Name: name, Size: int64(len(data)), SHA256: sum(data)})
	return nil
}

// sizeLimit is what one member may have.
func sizeLimit(name string) int64 {
	if strings.HasPrefix(name, bundlesPrefix) {
		return maxBundle
	}
	return maxMember
}

func sum(data []byte) string {
	s := sha256.Sum256(data)
	return hex.EncodeToString(s[:])
}

// chunks writes records into numbered members of bounded size.
type chunks struct {
	archive *archive
	prefix  string
	buffer  bytes.Buffer
	next    int
}

func (c *chunks) add(r record) error {
	if err := r.write(&c.buffer); err != nil {
		return err
	}
	if c.buffer.Len() < chunkSize {
		return nil
	}
	return c.flush()
}

func (c *chunks) flush() error {
	if c.buffer.Len() == 0 {
		return nil
	}
	defer c.buffer.Reset()
	c.next++
	return c.archive.add(fmt.Sprintf("%s%06d", c.prefix, c.next), c.buffer.Bytes())
}

// record is one object or one key of the CA's bucket: a line of JSON, Size bytes
// as they are stored, and a newline. So a person can read it, and no byte changes.
type record struct {
	Resource  string     `json:"resource,omitempty"` // of an object
	Namespace string     `json:"namespace,omitempty"`
	Name      string     `json:"name"`
	Revision  uint64     `json:"revision"`
	Expires   *time.Time `json:"expires,omitempty"`
	Size      int        `json:"size"`

	data []byte
}

func (r record) write(w *bytes.Buffer) error {
	r.Size = len(r.data)
	head, err := json.Marshal(r)
	if err != nil {
		return err
	}
	if len(head)+len(r.data)+2 > maxRecord {
		return fmt.Errorf("record %s %s: %d bytes do not fit into a backup", r.Resource, r.Name, len(r.data))
	}
	w.Write(head)
	w.WriteByte('\n')
	w.Write(r.data)
	w.WriteByte('\n')
	return nil
}

// records calls f for each record of a member. The data is the member's own.
func records(member []byte, f func(record) error) error {
	for n := 1; len(member) > 0; n++ {
		head, rest, ok := bytes.Cut(member, []byte("\n"))
		if !ok {
			return fmt.Errorf("record %d: cut off", n)
		}
		var r record
		dec := json.NewDecoder(bytes.NewReader(head))
		dec.DisallowUnknownFields()
		if err := dec.Decode(&r); err != nil {
			return fmt.Errorf("record %d: %w", n, err)
		}
		if r.Size < 0 || r.Size > maxRecord || r.Size >= len(rest) || rest[r.Size] != '\n' {
			return fmt.Errorf("record %d: size %d is wrong", n, r.Size)
		}
		if r.Name == "" {
			return fmt.Errorf("record %d: no name", n)
		}
		r.data = rest[:r.Size:r.Size]
		member = rest[r.Size+1:]
		if err := f(r); err != nil {
			return err
		}
	}
	return nil
}

// errDamaged is an archive that is not as it was written.
var errDamaged = errors.New("the backup is damaged or cut off")

// scan reads an archive once, calls f with each member in order (the manifest
// excepted; data is valid only during the call), and checks all against the manifest at the end. Until it
// has returned nothing that it gave to f is certain.
func scan(r io.Reader, f func(name string, data []byte) error) (Manifest, error) {
	buffered := bufio.NewReaderSize(r, 1<<20)
	zr, err := gzip.NewReader(buffered)
	if err != nil {
		return Manifest{}, errors.New("not a backup of a hub")
	}
	zr.Multistream(false)
	tr := tar.NewReader(zr)
	var found []Member
	seen := map[string]bool{}
	var buffer bytes.Buffer
	for {
		h, err := tr.Next()
		if err != nil { // the end as well: the manifest is the last member
			return Manifest{}, damaged("it ends without a manifest", err)
		}
		switch {
		case h.Typeflag != tar.TypeReg || !memberRE.MatchString(h.Name):
			return Manifest{}, fmt.Errorf("the backup has a member %q that no backup of this version has", h.Name)
		case seen[h.Name] || len(seen) == maxMembers:
			return Manifest{}, fmt.Errorf("%w: member %s comes twice, or there are too many", errDamaged, h.Name)
		case h.Size > sizeLimit(h.Name):
			return Manifest{}, fmt.Errorf("%w: member %s has %d bytes", errDamaged, h.Name, h.Size)
		}
		seen[h.Name] = true
		buffer.Reset()
		if _, err := io.Copy(&buffer, tr); err != nil {
			return Manifest{}, damaged("in "+h.Name, err)
		}
		if h.Name == manifestName {
			m, err := checkManifest(buffer.Bytes(), found)
			if err != nil {
				return Manifest{}, err
			}
			return m, checkEnd(tr, zr, buffered)
		}
		found = append(found, Member{Name: h.Name, Size: h.Size, SHA256: sum(buffer.Bytes())})
		if err := f(h.Name, buffer.Bytes()); err != nil {
			return Manifest{}, fmt.Errorf("%s: %w", h.Name, err)
		}
	}
}

func damaged(where string, err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = errors.New("unexpected end")
	}
	return fmt.Errorf("%w: %s: %w", errDamaged, where, err)
}

func checkManifest(text []byte, found []Member) (Manifest, error) {
	var m Manifest
	if err := json.Unmarshal(text, &m); err != nil {
		return Manifest{}, fmt.Errorf("%w: %s: %w", errDamaged, manifestName, err)
	}
	if m.Format != Format {
		return Manifest{}, fmt.Errorf("the backup has format %d (written by drover-hub %s), this program reads format %d", m.Format, m.Version, Format)
	}
	if len(m.Members) != len(found) {
		return Manifest{}, fmt.Errorf("%w: %d members, the manifest lists %d", errDamaged, len(found), len(m.Members))
	}
	for i, want := range m.Members {
		if found[i] != want {
			return Manifest{}, fmt.Errorf("%w: member %s is not what was written", errDamaged, found[i].Name)
		}
	}
	for _, name := range []string{"pki/intermediate.crt", "pki/intermediate.key", "pki/roots.crt", "nats/keys.json"} {
		if !slices.ContainsFunc(found, func(f Member) bool { return f.Name == name }) {
			return Manifest{}, fmt.Errorf("%w: %s is not in it", errDamaged, name)
		}
	}
	return m, nil
}

// checkEnd reads the rest, which proves the compressor's own sum.
func checkEnd(tr *tar.Reader, zr io.Reader, file *bufio.Reader) error {
	if _, err := tr.Next(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("%w: something follows the manifest", errDamaged)
	}
	if n, err := io.Copy(io.Discard, io.LimitReader(zr, 1<<20)); err != nil || n == 1<<20 {
		return fmt.Errorf("%w: at its end", errDamaged)
	}
	if _, err := file.ReadByte(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("%w: something follows its end", errDamaged)
	}
	return nil
}

// Verify reads a whole backup and returns its manifest.
func Verify(r io.Reader) (Manifest, error) {
	found := map[string]int{} // members or records, by what begins their names
	m, err := scan(r, func(name string, data []byte) error {
		prefix := name[:strings.LastIndexByte(name, '/')+1]
		switch prefix {
		case bundlesPrefix:
			found[prefix]++
		case objectsPrefix, recordsPrefix, auditPrefix:
			return records(data, func(record) error {
				found[prefix]++
				return nil
			})
		}
		return nil
	})
	if err != nil {
		return m, err
	}
	for prefix, want := range map[string]int{objectsPrefix: m.Objects, recordsPrefix: m.Records, bundlesPrefix: m.Bundles, auditPrefix: m.AuditMessages} {
		if found[prefix] != want {
			return m, fmt.Errorf("%w: it has %d %s, the manifest says %d", errDamaged, found[prefix], strings.TrimSuffix(prefix, "/"), want)
		}
	}
	return m, nil
}
