// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package broker_test

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/drover-io/drover/test/leak"
	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/drover-io/drover/hub/broker"
	"github.com/drover-io/drover/shared/wire"
)

const patience = 30 * time.Second

func TestMain(m *testing.M) { leak.Main(m) }

func open(t *testing.T, dir string) *broker.Broker {
	t.Helper()
	b, err := broker.Open(broker.Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	return b
}

// What the hub stored is there after a restart, in the account of the same key.
func TestRestart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	b := open(t, dir)
	kv, err := b.JetStream().CreateKeyValue(t.Context(), jetstream.KeyValueConfig{Bucket: "objects"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := kv.Put(t.Context(), "key", []byte("value")); err != nil {
		t.Fatal(err)
	}
	if err := b.Healthy(); err != nil {
		t.Error(err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if err := b.Healthy(); err == nil {
		t.Error("healthy after Close")
	}

	b = open(t, dir)
	if kv, err = b.JetStream().KeyValue(t.Context(), "objects"); err != nil {
		t.Fatal(err)
	}
	entry, err := kv.Get(t.Context(), "key")
	if err != nil {
		t.Fatal(err)
	}
	if string(entry.Value()) != "value" {
		t.Errorf("value %q", entry.Value())
	}
}

func TestOpenErrors(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		prepare func(t *testing.T, dir string)
		want    string
	}{
		{"in use", func(t *testing.T, dir string) { open(t, dir) }, "in use by another hub (process "},
		{"a file", func(t *testing.T, dir string) {
			if err := os.WriteFile(dir, nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}, "not a directory"},
		{"keys lost", func(t *testing.T, dir string) {
			b := open(t, dir)
			if _, err := b.EnsureMetricsStream(t.Context()); err != nil {
				t.Fatal(err)
			}
			b.Close()
			if err := os.Remove(filepath.Join(dir, "keys.json")); err != nil {
				t.Fatal(err)
			}
		}, "keys.json is missing but there is data"},
		{"keys readable", func(t *testing.T, dir string) {
			open(t, dir).Close()
			if err := os.Chmod(filepath.Join(dir, "keys.json"), 0o644); err != nil {
				t.Fatal(err)
			}
		}, "keys.json has mode 0644, want 0600"},
		{"keys torn", func(t *testing.T, dir string) {
			open(t, dir).Close()
			if err := os.Truncate(filepath.Join(dir, "keys.json"), 40); err != nil {
				t.Fatal(err)
			}
		}, "parse keys.json: "},
		{"no place for the probe", func(t *testing.T, dir string) {
			if err := os.MkdirAll(filepath.Join(dir, "probe", "x"), 0o700); err != nil {
				t.Fatal(err)
			}
		}, "write: "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), "nats")
			tt.prepare(t, dir)
			b, err := broker.Open(broker.Config{Dir: dir})
			if err == nil {
				b.Close()
				t.Fatal("opened")
			}
			if want := "open broker in " + dir + ": " + tt.want; !strings.HasPrefix(err.Error(), want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("got %q, want %q", err, want)
			}
		})
	}
}

func TestUnwritable(t *testing.T) {
	t.Parallel()
	if os.Getuid() == 0 {
		t.Skip("root writes anywhere")
	}
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o500); err != nil {
		t.Fatal(err)
	}
	_, err := broker.Open(broker.Config{Dir: dir})
	if want := "open broker in " + dir + ": permission denied"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestKeysAreSecret(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "new", "nats")
	open(t, dir)
	for path, want := range map[string]os.FileMode{dir: 0o700, filepath.Join(dir, "keys.json"): 0o600} {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if got := info.Mode().Perm(); got != want {
			t.Errorf("%s has mode %04o, want %04o", path, got, want)
		}
	}
}

func TestCredential(t *testing.T) {
	t.Parallel()
	b := open(t, t.TempDir())
	notAfter := time.Now().Add(time.Hour).Truncate(time.Second)
	c, err := b.Credential("aaa", notAfter)
	if err != nil {
		t.Fatal(err)
	}
	claims, err := jwt.DecodeUserClaims(c.JWT)
	if err != nil {
		t.Fatal(err)
	}
	if claims.Name != "aaa" || claims.Expires != notAfter.Unix() || !claims.HasEmptyPermissions() {
		t.Errorf("claims %+v", claims)
	}
	if _, err := c.Sign([]byte("nonce")); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Sign([]byte("nonce")); err == nil {
		t.Error("a credential signs twice")
	}
	for _, cluster := range []string{"", "a.b", "*", ">", "a b", "A", "-a", "a\r", strings.Repeat("a", 64)} {
		if _, err := b.Credential(cluster, notAfter); err == nil {
			t.Errorf("credential for cluster %q", cluster)
		}
	}
	if _, err := b.Credential("aaa", time.Now()); err == nil {
		t.Error("credential for an expired certificate")
	}
}

// A JWT is of no use to who cannot sign the nonce of the connection, and without
// one there is no connection at all.
func TestLoginRefused(t *testing.T) {
	t.Parallel()
	b := open(t, t.TempDir())
	theirs, err := b.Credential("aaa", time.Now().Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	ours, err := b.Credential("bbb", time.Now().Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name  string
		login func(nonce string) string
	}{
		{"stolen JWT", func(nonce string) string {
			sig, err := ours.Sign([]byte(nonce))
			if err != nil {
				t.Error(err)
			}
			return fmt.Sprintf(`"jwt":%q,"sig":%q`, theirs.JWT, base64.RawURLEncoding.EncodeToString(sig))
		}},
		{"nothing", func(string) string { return `"name":"aaa"` }},
		{"password", func(string) string { return `"user":"aaa","pass":"secret"` }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			conn, err := b.DialAgent(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			r := bufio.NewReader(conn)
			line, err := r.ReadString('\n')
			if err != nil {
				t.Fatal(err)
			}
			var info struct {
				Nonce string `json:"nonce"`
			}
			if err := json.Unmarshal([]byte(strings.TrimPrefix(line, "INFO ")), &info); err != nil {
				t.Fatal(err)
			}
			// The pipe has no buffer: the server may answer before it has read all.
			go fmt.Fprintf(conn, "CONNECT {%s}\r\nPING\r\n", tt.login(info.Nonce))
			if line, err = r.ReadString('\n'); err != nil || line != "-ERR 'Authorization Violation'\r\n" {
				t.Errorf("got %q, %v", line, err)
			}
		})
	}
}

func TestMetricsStream(t *testing.T) {
	t.Parallel()
	b := open(t, t.TempDir())
	var stream jetstream.Stream
	for range 2 { // the second time it is there already
		var err error
		if stream, err = b.EnsureMetricsStream(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	got := stream.CachedInfo().Config
	want := jetstream.StreamConfig{
		Subjects: []string{"fm.*.up.metrics.host", "fm.*.up.metrics.kubernetes"}, MaxAge: time.Hour, MaxMsgsPerSubject: 720, MaxBytes: 4 << 30,
		NoAck: true, DenyDelete: true, Compression: jetstream.S2Compression, PersistMode: jetstream.AsyncPersistMode,
	}
	if diff := cmp.Diff(want, jetstream.StreamConfig{
		Subjects: got.Subjects, MaxAge: got.MaxAge, MaxMsgsPerSubject: got.MaxMsgsPerSubject, MaxBytes: got.MaxBytes,
		NoAck: got.NoAck, DenyDelete: got.DenyDelete, Compression: got.Compression, PersistMode: got.PersistMode,
		AllowRollup: got.AllowRollup, AllowDirect: got.AllowDirect,
	}); diff != "" {
		t.Error(diff)
	}

	nc, err := b.Connect("test")
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	for range 730 {
		for _, cluster := range []string{"aaa", "bbb"} {
			if err := nc.Publish(wire.MetricsSubject(cluster, wire.SampleHost), []byte("{}")); err != nil {
				t.Fatal(err)
			}
		}
	}
	count := func() uint64 {
		info, err := stream.Info(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return info.State.Msgs
	}
	wait := func(want uint64) {
		t.Helper()
		deadline := time.Now().Add(patience)
		for count() != want {
			if time.Now().After(deadline) {
				t.Fatalf("%d messages, want %d", count(), want)
			}
			time.Sleep(5 * time.Millisecond)
		}
	}
	wait(1440)
	if err := b.PurgeMetrics(t.Context(), "aaa"); err != nil {
		t.Fatal(err)
	}
	wait(720)
}
