// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package content

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"

	"github.com/drover-io/drover/hub/broker"
	"github.com/drover-io/drover/shared/wire"
	"github.com/drover-io/drover/test/leak"
)

func TestMain(m *testing.M) { leak.Main(m) }

func open(t *testing.T, used map[string]bool) *Store {
	t.Helper()
	b, err := broker.Open(broker.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	s, err := Open(t.Context(), Config{
		JetStream: b.JetStream(), InUse: func(context.Context) (map[string]bool, error) { return used, nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// lines makes a bundle of n objects of size bytes.
func lines(n, size int) []byte {
	var out bytes.Buffer
	r := rand.New(rand.NewPCG(1, uint64(n)))
	for i := range n {
		text := make([]byte, size)
		for j := range text {
			text[j] = "0123456789abcdef"[r.IntN(16)]
		}
		fmt.Fprintf(&out, `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"c%d"},"data":{"x":"%s"}}`+"\n", i, text)
	}
	return out.Bytes()
}

func TestCheck(t *testing.T) {
	t.Parallel()
	good := `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"c"}}`
	for _, tt := range []struct{ name, data, want string }{
		{"one", good + "\n", ""},
		{"two of a name", good + "\n" + strings.Replace(good, `"name":"c"`, `"name":"c","namespace":"n"`, 1) + "\n", ""},
		{"empty", "", "the bundle is empty"},
		{"cut off", good + "\n" + good[:20], "line 2: it does not end with a newline: the bundle may be cut off"},
		{"twice", good + "\n" + strings.Replace(good, "{", `{"data":{},`, 1) + "\n", "line 2: the same object as on line 1"},
		{"blank", good + "\n\n", "line 2: empty: want one JSON object a line"},
		{"YAML", "kind: ConfigMap\n", "line 1: not a JSON object"},
		{"broken", "{]\n", "line 1: not a Kubernetes object"},
		{"list", `{"apiVersion":"v1","kind":"List","items":[]}` + "\n", "line 1: kind List: put its items on lines of their own"},
		{"without a version", `{"kind":"ConfigMap","metadata":{"name":"c"}}` + "\n", "line 1: apiVersion is missing"},
		{"without a kind", `{"apiVersion":"v1","metadata":{"name":"c"}}` + "\n", "line 1: kind is missing"},
		{"without a name", `{"apiVersion":"v1","kind":"ConfigMap"}` + "\n", "line 1: metadata.name is missing"},
		{"generated", `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"generateName":"c-"}}` + "\n", "line 1: metadata.generateName"},
		{"a path", `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a/b"}}` + "\n", `line 1: metadata.name "a/b"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := Check([]byte(tt.data))
			if got := fmt.Sprint(err); (err != nil) != (tt.want != "") || (err != nil && !strings.HasPrefix(got, tt.want)) {
				t.Errorf("got %s, want %q", got, tt.want)
			}
		})
	}
}

func TestStoredOnceAndCollected(t *testing.T) {
	t.Parallel()
	used := map[string]bool{}
	s := open(t, used)
	ctx := t.Context()
	data := lines(1000, 2000)
	first, err := s.Put(ctx, data)
	if err != nil || !first.Stored || first.Objects != 1000 || first.Size != int64(len(data)) {
		t.Fatalf("%+v, %v", first, err)
	}
	if again, err := s.Put(ctx, data); err != nil || again.Stored || again.Digest != first.Digest {
		t.Errorf("%+v, %v", again, err)
	}
	spare, err := s.Put(ctx, lines(1, 10))
	if err != nil {
		t.Fatal(err)
	}
	s.cache.remove(first.Digest)
	got, err := s.Bundle(ctx, first.Digest)
	if err != nil || !bytes.Equal(got, data) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	clear(s.sizes)
	if n, err := s.Size(ctx, first.Digest); err != nil || n != int64(len(data)) {
		t.Errorf("size %d, %v", n, err)
	}
	for _, digest := range []string{"sha256:" + strings.Repeat("0", 64), "", "../x"} {
		if _, err := s.Size(ctx, digest); err == nil {
			t.Errorf("%q has a size", digest)
		}
	}

	used[first.Digest] = true
	now := time.Now()
	collect := func(at time.Time, want int) {
		t.Helper()
		if n, err := s.Collect(ctx, at); err != nil || n != want {
			t.Fatalf("%d collected, %v; want %d", n, err, want)
		}
	}
	collect(now.Add(100*time.Hour), 0) // seen unused for the first time
	collect(now.Add(100*time.Hour+Grace/2), 0)
	if _, err := s.Size(ctx, spare.Digest); err != nil { // somebody is about to use it
		t.Fatal(err)
	}
	collect(now.Add(100*time.Hour+Grace), 0)
	collect(now.Add(100*time.Hour+2*Grace), 1)
	if _, err := s.Size(ctx, spare.Digest); !errors.Is(err, ErrNotFound) {
		t.Errorf("after its collection: %v", err)
	}
	if _, err := s.Packed(ctx, first.Digest); err != nil {
		t.Errorf("the one in use: %v", err)
	}
}

type people struct{}

func (p people) AuthenticateRequest(r *http.Request) (*authenticator.Response, bool, error) {
	name := r.Header.Get("User")
	return &authenticator.Response{User: &user.DefaultInfo{Name: name}}, name != "", nil
}

func (p people) Authorize(_ context.Context, a authorizer.Attributes) (authorizer.Decision, string, error) {
	if a.GetUser().GetName() == "alice" && a.GetVerb() == "create" && a.GetAPIGroup() == "fleet.drover.io" && a.GetResource() == "bundles" {
		return authorizer.DecisionAllow, "", nil
	}
	return authorizer.DecisionDeny, "", nil
}

type recorder struct{ events []*auditv1.Event }

func (r *recorder) Record(_ context.Context, ev *auditv1.Event) error {
	r.events = append(r.events, ev)
	return nil
}

func TestUpload(t *testing.T) {
	t.Parallel()
	s := open(t, nil)
	log := &recorder{}
	h := s.Upload(people{}, people{}, log)
	data := lines(10, 100)
	packed, err := compress(data)
	if err != nil {
		t.Fatal(err)
	}
	var bomb bytes.Buffer
	enc, err := zstd.NewWriter(&bomb)
	if err != nil {
		t.Fatal(err)
	}
	zeros := make([]byte, 1<<20)
	for range 200 {
		if _, err := enc.Write(zeros); err != nil {
			t.Fatal(err)
		}
	}
	if err := enc.Close(); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, user, encoding string
		body                 []byte
		status               int
		want                 string
	}{
		{"nobody", "", "", data, 401, "no credentials"},
		{"not allowed", "bob", "", data, 403, `user \"bob\" cannot create bundles`},
		{"plain", "alice", "", data, 201, `"objects":10`},
		{"packed, the same", "alice", "zstd", packed, 200, `"stored":false`},
		{"a line is wrong", "alice", "", []byte("{}\n"), 400, "line 1: apiVersion is missing"},
		{"not zstd", "alice", "zstd", data, 400, "cannot be read"},
		{"a bomb", "alice", "zstd", bomb.Bytes(), 413, "more than 32 MiB"},
		{"too large", "alice", "", make([]byte, MaxBundle+10), 413, "more than 32 MiB"},
		{"another coding", "alice", "br", data, 415, "want none or zstd"},
	} {
		r := httptest.NewRequest(http.MethodPut, wire.PathContent, bytes.NewReader(tt.body))
		if tt.user != "" {
			r.Header.Set("User", tt.user)
		}
		if tt.encoding != "" {
			r.Header.Set("Content-Encoding", tt.encoding)
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != tt.status || !strings.Contains(w.Body.String(), tt.want) {
			t.Errorf("%s: %d %s", tt.name, w.Code, w.Body)
		}
		if last := log.events[len(log.events)-1]; int(last.ResponseStatus.Code) != tt.status || last.Verb != "create" || last.ObjectRef.Resource != "bundles" {
			t.Errorf("%s: recorded %+v", tt.name, last)
		}
	}
	if len(s.uploads) != 0 {
		t.Errorf("%d uploads are held", len(s.uploads))
	}
}

func TestDownload(t *testing.T) {
	t.Parallel()
	s := open(t, nil)
	data := lines(500, 1000)
	info, err := s.Put(t.Context(), data)
	if err != nil {
		t.Fatal(err)
	}
	h := s.Download(Agents{
		Identify: func(w http.ResponseWriter, r *http.Request) (string, error) {
			name := r.Header.Get("Cluster")
			if name == "" {
				w.WriteHeader(http.StatusUnauthorized)
				return "", errors.New("nobody")
			}
			return name, nil
		},
		May: func(cluster, digest string) bool { return cluster == "shop-1" && digest == info.Digest },
	})
	get := func(cluster, digest string, headers ...string) *httptest.ResponseRecorder {
		r := httptest.NewRequest(http.MethodGet, wire.PathContent+"/"+digest, nil)
		if cluster != "" {
			r.Header.Set("Cluster", cluster)
		}
		for i := 0; i < len(headers); i += 2 {
			r.Header.Set(headers[i], headers[i+1])
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w
	}
	for _, tt := range []struct {
		name, cluster, digest string
		status                int
	}{
		{"nobody", "", info.Digest, 401},
		{"another cluster", "shop-2", info.Digest, 404},
		{"not its own", "shop-1", "sha256:" + strings.Repeat("0", 64), 404},
		{"not a digest", "shop-1", "..%2f..", 404},
	} {
		if w := get(tt.cluster, tt.digest); w.Code != tt.status || w.Header().Get("ETag") != "" {
			t.Errorf("%s: %d", tt.name, w.Code)
		}
	}
	if w := get("shop-1", info.Digest); w.Code != 200 || !bytes.Equal(w.Body.Bytes(), data) || w.Header().Get("Content-Encoding") != "" {
		t.Errorf("plain: %d, %d bytes", w.Code, w.Body.Len())
	}
	whole := get("shop-1", info.Digest, "Accept-Encoding", "gzip, zstd;q=1")
	packed := whole.Body.Bytes()
	etag := whole.Header().Get("ETag")
	if got, err := unpack(packed); err != nil || !bytes.Equal(got, data) || whole.Header().Get("Content-Encoding") != "zstd" || etag == "" {
		t.Fatalf("packed: %v, %v", err, whole.Header())
	}
	rest := get("shop-1", info.Digest, "Accept-Encoding", "zstd", "Range", "bytes=1000-", "If-Range", etag)
	if rest.Code != 206 || !bytes.Equal(rest.Body.Bytes(), packed[1000:]) {
		t.Errorf("resumed: %d, %d of %d bytes", rest.Code, rest.Body.Len(), len(packed))
	}
	if w := get("shop-1", info.Digest, "Accept-Encoding", "zstd", "Range", "bytes=1000-", "If-Range", `"other"`); w.Code != 200 {
		t.Errorf("resumed something else: %d", w.Code)
	}
	if w := get("shop-1", info.Digest, "Accept-Encoding", "zstd", "If-None-Match", etag); w.Code != 304 {
		t.Errorf("unchanged: %d", w.Code)
	}
	if w := get("shop-1", info.Digest, "Accept-Encoding", "zstd", "Range", fmt.Sprintf("bytes=%d-", len(packed))); w.Code != 416 {
		t.Errorf("beyond the end: %d", w.Code)
	}
}

func FuzzCheck(f *testing.F) {
	f.Add([]byte(`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"c"}}` + "\n"))
	f.Add([]byte("{}\n\n\r\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		n, err := Check(data)
		if err != nil {
			return
		}
		objects := 0
		for dec := json.NewDecoder(bytes.NewReader(data)); ; objects++ {
			var obj map[string]any
			err := dec.Decode(&obj)
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatalf("a bundle that passed cannot be read: %v", err)
			}
		}
		if n != objects {
			t.Errorf("%d objects, %d lines", objects, n)
		}
	})
}

func FuzzUnpack(f *testing.F) {
	packed, err := compress([]byte("some text"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(packed)
	f.Fuzz(func(t *testing.T, data []byte) {
		if got, err := unpack(data); err == nil && len(got) > MaxBundle {
			t.Errorf("%d bytes", len(got))
		}
	})
}
