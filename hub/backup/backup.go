// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

// Package backup writes all that a hub cannot make anew into one file, and makes
// a hub's data dir of such a file.
//
// The file is a gzipped tar: the objects as they are at one revision, the
// CA's keys and certificates as they lie on disk, the CA's bucket, the bundles that
// works name, the audit log, the broker's keys, and last a manifest with the SHA-256 of each member. It holds private
// keys. Samples are left out: they are a short memory and come again by
// themselves. So are the admin credential, which the hub makes anew, and files
// outside the data dir, such as an operator's own TLS certificate.
//
// A restored hub never gives a revision that may have been served before: see
// firstRevision.
package backup

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/drover-io/drover/hub/broker"
	"github.com/drover-io/drover/hub/store"
	"github.com/drover-io/drover/pki/ca"
	"github.com/drover-io/drover/pki/identity"
	"github.com/drover-io/drover/shared/daemon"
)

// Format is the version of the file's layout that this program writes, and the
// newest that it reads.
const Format = 1

// Folders of a data dir.
const (
	pkiDir  = "pki"
	natsDir = "nats"
)

// stableReads is how often the CA's directory is read to find it at rest.
const stableReads = 20

// Manifest says what is in a backup.
type Manifest struct {
	Format      int       `json:"format"`
	Version     string    `json:"version"` // of the program that wrote it
	TrustDomain string    `json:"trustDomain"`
	Time        time.Time `json:"time"`
	Revision    uint64    `json:"revision"` // of the objects
	Objects     int       `json:"objects"`
	Records     int       `json:"records"` // of the CA's bucket
	Bundles     int       `json:"bundles,omitempty"`
	// AuditMessages of the audit log; each holds one record or several.
	AuditMessages int `json:"auditMessages,omitempty"`
	// Settings are those that the hub ran with, for a person's memory; empty if it
	// did not run.
	Settings map[string]string `json:"settings,omitempty"`
	Members  []Member          `json:"members"`
}

// Member is one file of the archive.
type Member struct {
	Name   string `json:"name"`
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"` // lower hex
}

// Source is the hub to be saved.
type Source struct {
	DataDir   string
	Store     *store.Store
	JetStream jetstream.JetStream
	// Settings for the manifest, by option name.
	Settings map[string]string
}

// Write writes a backup. Writes to the hub may go on meanwhile: the objects are
// those of one moment, and the CA's records are read after them, so that whatever
// certificate an object speaks of is among the records, and no revocation that
// the objects know is missing.
func (s Source) Write(ctx context.Context, w io.Writer) (Manifest, error) {
	m := Manifest{Format: Format, Version: daemon.Version(), Time: time.Now().UTC().Truncate(time.Second), Settings: s.Settings}
	objects, revision, err := s.Store.Export(ctx)
	if err != nil {
		return Manifest{}, err
	}
	m.Revision = revision
	zw, err := gzip.NewWriterLevel(w, gzip.BestSpeed)
	if err != nil {
		return Manifest{}, err
	}
	a := &archive{tar: tar.NewWriter(zw), time: m.Time}
	if m.TrustDomain, err = s.files(a); err != nil {
		return Manifest{}, err
	}
	chunk := chunks{archive: a, prefix: objectsPrefix}
	for e := range objects {
		if err := ctx.Err(); err != nil {
			return Manifest{}, err
		}
		if err := chunk.add(record{
			Resource: e.Key.Resource, Namespace: e.Key.Namespace, Name: e.Key.Name, Revision: e.Revision, data: e.Data,
		}); err != nil {
			return Manifest{}, err
		}
		m.Objects++
	}
	if err := chunk.flush(); err != nil {
		return Manifest{}, err
	}
	// After the objects: a bundle that one of them names is not removed meanwhile.
	if m.Bundles, err = s.bundles(ctx, a); err != nil {
		return Manifest{}, fmt.Errorf("read the bundles: %w", err)
	}
	if m.Records, err = s.bucket(ctx, a); err != nil {
		return Manifest{}, fmt.Errorf("read the bucket of the CA: %w", err)
	}
	if m.AuditMessages, err = s.auditLog(ctx, a); err != nil {
		return Manifest{}, fmt.Errorf("read the audit log: %w", err)
	}
	m.Members = a.members
	text, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return Manifest{}, err
	}
	if err := a.add(manifestName, text); err != nil {
		return Manifest{}, err
	}
	return m, errors.Join(a.tar.Close(), zw.Close())
}

// files adds the small files, and returns the trust domain.
func (s Source) files(a *archive) (string, error) {
	pki, err := stable(filepath.Join(s.DataDir, pkiDir))
	if err != nil {
		return "", err
	}
	td, err := trustDomain(pki["intermediate.crt"])
	if err != nil {
		return "", fmt.Errorf("%s: %w", filepath.Join(s.DataDir, pkiDir, "intermediate.crt"), err)
	}
	keys, err := os.ReadFile(filepath.Join(s.DataDir, natsDir, broker.KeysFile))
	if err != nil {
		return "", err
	}
	for _, name := range slices.Sorted(maps.Keys(pki)) {
		if err := a.add(pkiDir+"/"+name, pki[name]); err != nil {
			return "", err
		}
	}
	return td, a.add(natsDir+"/"+broker.KeysFile, keys)
}

// stable reads the files of a directory that may change meanwhile: only what
// two readings agree on existed at one moment. So a certificate is never saved
// without its key, in the middle of a rotation.
func stable(dir string) (map[string][]byte, error) {
	var before map[string][]byte
	for range stableReads {
		now, err := read(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) { // a file may just be replaced
			return nil, err
		}
		if err == nil && before != nil && maps.EqualFunc(before, now, bytes.Equal) {
			return now, nil
		}
		if before = now; err != nil {
			before = nil
			if _, statErr := os.Stat(dir); statErr != nil {
				return nil, statErr
			}
		}
	}
	return nil, fmt.Errorf("%s: changes all the time; try again", dir)
}

func read(dir string) (map[string][]byte, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	out := map[string][]byte{}
	for _, e := range entries {
		if !e.Type().IsRegular() || strings.HasPrefix(e.Name(), ".") {
			continue // a file on its way
		}
		if out[e.Name()], err = os.ReadFile(filepath.Join(dir, e.Name())); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func trustDomain(intermediate []byte) (string, error) {
	certs, err := identity.ParseCerts(intermediate)
	if err != nil {
		return "", err
	}
	if len(certs) == 0 || len(certs[0].URIs) != 1 {
		return "", errors.New("names no trust domain")
	}
	return certs[0].URIs[0].Host, nil
}

// bucket adds the records of the CA's bucket. It reads to the stream's present
// end, wherever that is by then: a record that is replaced meanwhile is met again.
func (s Source) bucket(ctx context.Context, a *archive) (int, error) {
	kv, err := s.JetStream.KeyValue(ctx, ca.BucketName)
	if errors.Is(err, jetstream.ErrBucketNotFound) {
		return 0, nil // a hub that was stopped at its first start
	}
	if err != nil {
		return 0, err
	}
	stream, err := s.JetStream.Stream(ctx, "KV_"+kv.Bucket())
	if err != nil {
		return 0, err
	}
	prefix := "$KV." + kv.Bucket() + "."
	chunk := chunks{archive: a, prefix: recordsPrefix}
	n := 0
	for seq := stream.CachedInfo().State.FirstSeq; ; {
		m, err := stream.GetMsg(ctx, seq, jetstream.WithGetMsgSubject(prefix+">"))
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			return n, chunk.flush()
		}
		if err != nil {
			return 0, err
		}
		seq = m.Sequence + 1
		if m.Header.Get("KV-Operation") != "" || m.Header.Get("Nats-Marker-Reason") != "" {
			continue // a marker of what is gone
		}
		r := record{Name: strings.TrimPrefix(m.Subject, prefix), Revision: m.Sequence, data: m.Data}
		if text := m.Header.Get(jetstream.MsgTTLHeader); text != "" {
			ttl, err := time.ParseDuration(text)
			if err != nil {
				return 0, fmt.Errorf("record %s: life %q: %w", r.Name, text, err)
			}
			expires := m.Time.Add(ttl).UTC()
			r.Expires = &expires
		}
		if err := chunk.add(r); err != nil {
			return 0, err
		}
		n++
	}
}
