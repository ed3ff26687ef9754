// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

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
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"

	"github.com/drover-io/drover/hub/broker"
	"github.com/drover-io/drover/hub/store"
	"github.com/drover-io/drover/pki/ca"
	"github.com/drover-io/drover/shared/apis/fleet"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds what only takes long when a test fails.
const patience = 60 * time.Second

func timeout(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// hub is the part of a hub that has data.
type hub struct {
	t      testing.TB
	dir    string
	broker *broker.Broker
	store  *store.Store
	kv     jetstream.KeyValue
	ca     *ca.CA
	stop   func()
}

func start(t testing.TB, dir string) *hub {
	t.Helper()
	h := &hub{t: t, dir: dir}
	var err error
	if h.broker, err = broker.Open(broker.Config{Dir: filepath.Join(dir, natsDir)}); err != nil {
		t.Fatal(err)
	}
	js := h.broker.JetStream()
	if h.store, err = store.Open(timeout(t), js, store.Options{Dir: dir}); err != nil {
		t.Fatal(err)
	}
	if h.kv, err = js.CreateOrUpdateKeyValue(timeout(t), ca.BucketConfig()); err != nil {
		t.Fatal(err)
	}
	if h.ca, err = ca.Open(timeout(t), ca.Config{Dir: filepath.Join(dir, pkiDir), KV: h.kv}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ran := make(chan error, 1)
	go func() { ran <- h.store.Run(ctx) }()
	stopped := false
	h.stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-ran; err != nil && !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		if err := h.broker.Close(); err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(h.stop)
	return h
}

func (h *hub) source() Source {
	return Source{DataDir: h.dir, Store: h.store, JetStream: h.broker.JetStream()}
}

func object(name string, value int) []byte {
	return fmt.Appendf(nil, `{"metadata":{"name":%q,"uid":"u-%s"},"spec":{"value":%d,"text":"<&>\u00e9"}}`, name, name, value)
}

func key(name string) store.Key {
	return store.Key{Resource: "things.example.io", Namespace: "ns", Name: name}
}

func (h *hub) create(k store.Key, data []byte) uint64 {
	h.t.Helper()
	rev, err := h.store.Create(timeout(h.t), k, data)
	if err != nil {
		h.t.Fatal(err)
	}
	return rev
}

func (h *hub) token(name string) {
	h.t.Helper()
	tokens := store.Of[fleet.JoinToken](h.store, fleet.ResourceJoinTokens)
	tok := &fleet.JoinToken{}
	tok.Name = name
	if _, err := tokens.Create(timeout(h.t), tok); err != nil {
		h.t.Fatal(err)
	}
}

// contents are all objects but the tokens, without revisions, and all live
// records of the CA.
func (h *hub) contents() map[string]string {
	h.t.Helper()
	objects, _, err := h.store.Export(timeout(h.t))
	if err != nil {
		h.t.Fatal(err)
	}
	out := map[string]string{}
	for e := range objects {
		if e.Key.Resource != fleet.ResourceJoinTokens {
			out[e.Key.String()] = string(e.Data)
		}
	}
	keys, err := h.kv.ListKeys(timeout(h.t))
	if err != nil {
		h.t.Fatal(err)
	}
	for k := range keys.Keys() {
		e, err := h.kv.Get(timeout(h.t), k)
		if err != nil {
			h.t.Fatal(err)
		}
		out["ca "+k] = string(e.Value())
	}
	return out
}

func (h *hub) backup() []byte {
	h.t.Helper()
	var b bytes.Buffer
	if _, err := h.source().Write(timeout(h.t), &b); err != nil {
		h.t.Fatal(err)
	}
	return b.Bytes()
}

// file writes data into a file and opens it.
func file(t testing.TB, data []byte) *os.File {
	t.Helper()
	path := filepath.Join(t.TempDir(), "hub.backup")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// member is one of an archive as an attacker may make it.
type member struct {
	header tar.Header
	data   []byte
}

func unpack(t testing.TB, archive []byte) []member {
	t.Helper()
	zr, err := gzip.NewReader(bytes.NewReader(archive))
	if err != nil {
		t.Fatal(err)
	}
	var out []member
	for tr := tar.NewReader(zr); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(tr)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, member{*h, data})
	}
}

func pack(t testing.TB, members []member) []byte {
	t.Helper()
	var b bytes.Buffer
	zw := gzip.NewWriter(&b)
	tw := tar.NewWriter(zw)
	for _, m := range members {
		m.header.Format = tar.FormatPAX
		if m.header.Typeflag == tar.TypeReg {
			m.header.Size = int64(len(m.data))
		}
		if err := tw.WriteHeader(&m.header); err != nil {
			t.Fatal(err)
		}
		if _, err := tw.Write(m.data); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(tw.Close(), zw.Close()); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// rewrite makes the manifest of other members, as somebody would who changes an
// archive on purpose.
func rewrite(t testing.TB, members []member, change func(*Manifest)) []member {
	t.Helper()
	last := len(members) - 1
	var m Manifest
	if err := json.Unmarshal(members[last].data, &m); err != nil {
		t.Fatal(err)
	}
	m.Members = nil
	for _, x := range members[:last] {
		m.Members = append(m.Members, Member{Name: x.header.Name, Size: int64(len(x.data)), SHA256: sum(x.data)})
	}
	if change != nil {
		change(&m)
	}
	text, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	out := append([]member(nil), members...)
	out[last].data = text
	return out
}
