// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package signin

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/drover-io/drover/test/kube"
	"github.com/drover-io/drover/test/local"
)

// binaries is the folder of the programs under test.
var binaries string //nolint:gochecknoglobals // set once, before any test

func TestMain(m *testing.M) { os.Exit(local.Main(&binaries, m.Run)) }

// hub is a running drover-hub.
type hub struct {
	t       *testing.T
	dir     string
	url     string
	roots   []byte // PEM
	process *exec.Cmd
	log     *lockedBuffer
}

// startHub starts a hub that knows the provider as corp.
func startHub(t *testing.T, p *Provider, more string) *hub {
	t.Helper()
	h := &hub{t: t, dir: t.TempDir(), log: &lockedBuffer{}}
	secret := h.write("secret", HubSecret+"\n")
	h.write("hub.yaml", fmt.Sprintf(`listen: 127.0.0.1:0
data-dir: %s
oidc:
- name: corp
  issuerURL: %s
  clientID: %s
  clientSecretFile: %s
  cliClientID: %s
  caFile: %s
  usernameClaim: email
  requiredClaims: {email_verified: "true"}
%s`, filepath.Join(h.dir, "data"), p.URL, HubClient, secret, PublicClient, p.CAFile, more))
	h.start("127.0.0.1:0")
	t.Cleanup(h.stop)
	var err error
	if h.roots, err = os.ReadFile(filepath.Join(h.dir, "data", "pki", "roots.crt")); err != nil {
		t.Fatal(err)
	}
	return h
}

func (h *hub) write(name, text string) string {
	h.t.Helper()
	path := filepath.Join(h.dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		h.t.Fatal(err)
	}
	return path
}

func (h *hub) start(listen string) {
	h.t.Helper()
	h.process = exec.Command(filepath.Join(binaries, "drover-hub"), "serve", "--config", filepath.Join(h.dir, "hub.yaml"), "--listen", listen)
	h.process.Stderr = h.log
	if err := h.process.Start(); err != nil {
		h.t.Fatal(err)
	}
	Until(h.t, "the hub serves", func() error {
		text, err := os.ReadFile(filepath.Join(h.dir, "data", "hub.url"))
		h.url = strings.TrimSpace(string(text))
		return err
	})
}

// stop ends the hub in order.
func (h *hub) stop() {
	if h.process == nil {
		return
	}
	_ = h.process.Process.Signal(os.Interrupt)
	if err := h.process.Wait(); err != nil {
		h.t.Errorf("drover-hub: %v", err)
	}
	h.process = nil
	if h.t.Failed() {
		h.t.Logf("the hub's log:\n%s", h.log)
	}
}

// restart keeps the address.
func (h *hub) restart() {
	h.t.Helper()
	h.stop()
	h.start(strings.TrimPrefix(h.url, "https://"))
}

func (h *hub) admin() string { return filepath.Join(h.dir, "data", "admin.kubeconfig") }

// person is somebody with a home of their own.
type person struct {
	hub        *hub
	home       string
	kubeconfig string
}

func (h *hub) person(name string) *person {
	home := filepath.Join(h.dir, "home-"+name)
	if err := os.MkdirAll(home, 0o700); err != nil {
		h.t.Fatal(err)
	}
	return &person{hub: h, home: home, kubeconfig: filepath.Join(home, "kubeconfig")}
}

func (p *person) command(ctx context.Context, name string, args ...string) *exec.Cmd {
	var cmd *exec.Cmd
	if name == "kubectl" {
		cmd = kube.Kubectl(p.kubeconfig, args...)
	} else {
		cmd = exec.CommandContext(ctx, filepath.Join(binaries, name), args...)
	}
	cmd.Env = append(cmd.Environ(), "HOME="+p.home, "XDG_CACHE_HOME="+filepath.Join(p.home, "cache"), "KUBECONFIG="+p.kubeconfig,
		"PATH="+binaries+string(os.PathListSeparator)+os.Getenv("PATH"), "BROWSER=/nonexistent")
	return cmd
}

// run returns what a program printed and its exit code.
func (p *person) run(name string, args ...string) (stdout, stderr string, code int) {
	p.hub.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := p.command(ctx, name, args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); cmd.ProcessState == nil {
		p.hub.t.Fatalf("%s: %v", name, err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// must returns what a program that succeeds printed.
func (p *person) must(name string, args ...string) string {
	p.hub.t.Helper()
	out, errs, code := p.run(name, args...)
	if code != 0 {
		p.hub.t.Fatalf("%s %v: exit %d\n%s%s", name, args, code, out, errs)
	}
	return out
}

// fails wants an exit code and a text among the errors.
func (p *person) fails(code int, text, name string, args ...string) {
	p.hub.t.Helper()
	out, errs, got := p.run(name, args...)
	if got != code || !strings.Contains(errs, text) {
		p.hub.t.Fatalf("%s %v: exit %d\n%s%s\nwant exit %d and %q", name, args, got, out, errs, code, text)
	}
}

// asAdmin applies YAML with the hub's own credential.
func (h *hub) asAdmin() *person {
	p := h.person("admin")
	p.kubeconfig = h.admin()
	return p
}

// bind gives a group a built-in role.
func (h *hub) bind(group, role string) {
	h.t.Helper()
	h.asAdmin().must("kubectl", "create", "clusterrolebinding", "b-"+strings.ReplaceAll(group, ":", "-"), "--clusterrole="+role, "--group="+group)
}

// login runs `drover login` and lets act do the person's part once the output has
// what the pattern finds.
func (p *person) login(pattern string, act func(found string) error, args ...string) (stderr string, err error) {
	p.hub.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	args = append([]string{"login", "--hub", p.hub.url, "--ca-file", filepath.Join(p.hub.dir, "data", "pki", "roots.crt")}, args...)
	cmd := p.command(ctx, "drover", args...)
	var errs lockedBuffer
	cmd.Stderr = &errs
	if err := cmd.Start(); err != nil {
		return "", err
	}
	re := regexp.MustCompile(pattern)
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	acted := false
	for {
		select {
		case err := <-done:
			return errs.String(), err
		case <-time.After(20 * time.Millisecond):
		}
		if m := re.FindStringSubmatch(errs.String()); m != nil && !acted {
			acted = true
			if err := act(m[1]); err != nil {
				return errs.String(), err
			}
		}
	}
}

// lockedBuffer is written by one process and read by another goroutine.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(data []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(data)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// get asks the hub with the browser's cookies or a bearer token.
func (h *hub) get(c *http.Client, path, bearer string) (int, string) {
	return h.ask(c, http.MethodGet, path, "", func(r *http.Request) {
		if bearer != "" {
			r.Header.Set("Authorization", "Bearer "+bearer)
		}
	})
}

func (h *hub) ask(c *http.Client, method, path, body string, change func(*http.Request)) (int, string) {
	h.t.Helper()
	req, err := http.NewRequest(method, h.url+path, strings.NewReader(body))
	if err != nil {
		h.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	if change != nil {
		change(req)
	}
	resp, err := c.Do(req)
	if err != nil {
		h.t.Fatal(err)
	}
	defer resp.Body.Close()
	var text bytes.Buffer
	if _, err := text.ReadFrom(resp.Body); err != nil {
		h.t.Fatal(err)
	}
	return resp.StatusCode, text.String()
}
