// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package hub

import (
	"errors"
	"fmt"
	"math"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"go.uber.org/zap"

	"github.com/drover-io/drover/hub/auth/openid"
	"github.com/drover-io/drover/hub/backup"
	"github.com/drover-io/drover/hub/catalog/oci"
	"github.com/drover-io/drover/hub/gateway"
	"github.com/drover-io/drover/pki/identity"
	"github.com/drover-io/drover/shared/daemon"
)

// Defaults of Config.
const (
	DefaultDataDir = "/var/lib/drover-hub"
	DefaultListen  = ":8443"

	DefaultAPIRate  = 100
	DefaultAPIBurst = 400
)

// Config of a hub.
type Config struct {
	// DataDir holds everything; it is created, with mode 0700.
	DataDir string
	// Listen is the one address of the hub, "host:port"; port 0 picks one.
	Listen string
	// Advertise are the URLs under which agents and people reach the hub, the
	// first one preferred. Empty: made of Listen and the host's name.
	Advertise []string
	// TLSCert and TLSKey are files with a certificate for browsers and for tools
	// that do not know the hub's own CA. Empty: the hub's own.
	TLSCert, TLSKey string
	// CAPasswordFile holds the password that encrypts the CA's keys. Empty: the
	// keys are protected by their file mode alone.
	CAPasswordFile string
	// RegistryCredentials is a file in docker's form (config.json) with what the hub
	// shows to OCI registries; it is read anew for each pull. Empty: nothing.
	RegistryCredentials string
	// TrustDomain is set once, at the first start. Empty: made of the root key.
	TrustDomain string
	// AgentTTL is the life of agents' certificates, default 24 h.
	AgentTTL time.Duration
	// LostAfter is how long an agent may be gone before its cluster counts as
	// Unknown, default 15 s.
	LostAfter time.Duration
	// SampleEvery is the pace of the agents' samples, default 10 s.
	SampleEvery time.Duration
	// OIDC are the identity providers whose users the hub knows.
	OIDC openid.Issuers
	// SessionIdle ends a dashboard session that is not used, default 2 h, and
	// SessionLife any session, default 12 h.
	SessionIdle, SessionLife time.Duration
	// Audit says what is recorded in the audit log, and where else it goes.
	Audit Audit
	// APIRate is how many requests a second each user may send to the API, default
	// 100, and APIBurst how many at once after a pause, default 400.
	APIRate  float64
	APIBurst int
	// UIDir holds the files of the dashboard; empty: those of this build.
	UIDir string
	Log   *zap.Logger
	// Limits of the port; zero fields take their defaults.
	Limits gateway.Limits
}

// Validate returns everything that is wrong at once, by option name.
func (c *Config) Validate() error {
	var wrong []string
	bad := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	if c.DataDir == "" {
		bad("data-dir: must not be empty")
	}
	if _, _, err := net.SplitHostPort(c.Listen); err != nil {
		bad("listen %q: want host:port, such as 127.0.0.1:8443 or :8443", c.Listen)
	}
	for _, a := range c.Advertise {
		if !baseURL(a) {
			bad("advertise %q: want https://host[:port]", a)
		}
	}
	if (c.TLSCert == "") != (c.TLSKey == "") {
		bad("tls-cert, tls-key: give both or none")
	}
	if c.TrustDomain != "" {
		if err := identity.ValidTrustDomain(c.TrustDomain); err != nil {
			bad("trust-domain: %v", err)
		}
	}
	for _, o := range []struct {
		name string
		d    time.Duration
	}{{"agent-ttl", c.AgentTTL}, {"lost-after", c.LostAfter}, {"sample-every", c.SampleEvery}, {"session-idle", c.SessionIdle}, {"session-life", c.SessionLife}, {"audit-keep", c.Audit.Keep}} {
		if o.d < 0 {
			bad("%s %s: must not be negative", o.name, o.d)
		}
	}
	if c.RegistryCredentials != "" {
		if err := oci.CheckCredentials(c.RegistryCredentials); err != nil {
			bad("registry-credentials: %v", err)
		}
	}
	for _, problem := range c.OIDC.Problems() {
		bad("%s", problem)
	}
	if c.APIRate < 0 || math.IsNaN(c.APIRate) || math.IsInf(c.APIRate, 0) {
		bad("api-rate %v: want a number of requests a second, such as 100", c.APIRate)
	}
	if c.APIBurst < 0 {
		bad("api-burst %d: must not be negative", c.APIBurst)
	}
	if len(wrong) > 0 {
		return &daemon.Error{Err: errors.New(strings.Join(wrong, "; ")), Code: daemon.ExitUsage, Hint: "`drover-hub serve --help` lists the options"}
	}
	return nil
}

func baseURL(text string) bool {
	u, err := url.Parse(text)
	return err == nil && u.Scheme == "https" && u.Hostname() != "" && u.User == nil &&
		strings.Trim(u.Path, "/") == "" && u.RawQuery == "" && u.Fragment == ""
}

func (c *Config) path(elem ...string) string {
	return filepath.Join(append([]string{c.DataDir}, elem...)...)
}

// AdminKubeconfig is the file with the admin credential.
func (c *Config) AdminKubeconfig() string { return c.path("admin.kubeconfig") }

// URLFile holds the hub's base URL while it serves.
func (c *Config) URLFile() string { return c.path("hub.url") }

// prepare makes the data dir and proves that it can be written.
func (c *Config) prepare() error {
	if err := backup.CheckDir(c.DataDir); err != nil {
		return err
	}
	err := os.MkdirAll(c.DataDir, 0o700)
	if err == nil {
		var probe *os.File
		if probe, err = os.CreateTemp(c.DataDir, ".write-*"); err == nil {
			probe.Close()
			err = os.Remove(probe.Name())
		}
	}
	switch {
	case errors.Is(err, syscall.ENOSPC):
		return daemon.Hint(fmt.Errorf("data dir %s: %w", c.DataDir, err), "make room on that disk; nothing was lost")
	case err != nil:
		return daemon.Hint(fmt.Errorf("data dir %s: %w", c.DataDir, err), "choose another with --data-dir, or make it writable for this user")
	}
	return nil
}

// listen opens the port before anything is written.
func (c *Config) listen() (net.Listener, error) {
	l, err := gateway.Listen(c.Listen)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, daemon.Hint(err, "another program uses the port, perhaps another hub; stop it, or choose another with --listen")
	}
	return l, err
}

// urls returns where the hub is reached, once the port is known.
func (c *Config) urls(addr net.Addr) ([]string, error) {
	if len(c.Advertise) > 0 {
		out := make([]string, len(c.Advertise))
		for i, a := range c.Advertise {
			out[i] = strings.TrimSuffix(a, "/")
		}
		return out, nil
	}
	host, _, err := net.SplitHostPort(c.Listen)
	if err != nil {
		return nil, err
	}
	_, port, err := net.SplitHostPort(addr.String())
	if err != nil {
		return nil, err
	}
	if ip := net.ParseIP(host); host == "" || (ip != nil && ip.IsUnspecified()) {
		if host, err = os.Hostname(); err != nil {
			return nil, daemon.Hint(fmt.Errorf("find the name of this host: %w", err), "say where the hub is reached with --advertise https://HOST:PORT")
		}
	}
	return []string{"https://" + net.JoinHostPort(host, port)}, nil
}

// addresses are the IPs that the hub's own certificate names: those of this
// host and those in the advertised URLs.
func addresses(urls []string) []net.IP {
	var ips []net.IP
	seen := map[string]bool{}
	add := func(ip net.IP) {
		if ip != nil && !seen[ip.String()] && !ip.IsLinkLocalUnicast() && !ip.IsUnspecified() {
			seen[ip.String()] = true
			ips = append(ips, ip)
		}
	}
	add(net.IPv4(127, 0, 0, 1))
	add(net.IPv6loopback)
	for _, u := range urls {
		if p, err := url.Parse(u); err == nil {
			add(net.ParseIP(p.Hostname()))
		}
	}
	if nets, err := net.InterfaceAddrs(); err == nil {
		for _, n := range nets {
			if ipn, ok := n.(*net.IPNet); ok {
				add(ipn.IP)
			}
		}
	}
	return ips
}
