// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

// Package broker is the hub's NATS: an embedded nats-server with JetStream that
// listens on no port, the keys of its accounts, and the credentials that confine
// one agent's connection to one cluster's subjects.
//
// Agents and hub share the application account; the system account is apart and
// nobody gets a credential for it. Agents' credentials are minted by a scoped
// signing key, so the key on the connection path cannot grant more than the
// permissions of one cluster.
package broker

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nkeys"
	"go.uber.org/zap"

	"github.com/drover-io/drover/shared/wire"
)

// Config of a Broker.
type Config struct {
	// Dir holds the keys and all of JetStream. It is created with mode 0700.
	Dir string
	// ServerName is stable over the life of Dir; empty means "hub".
	ServerName string
	Log        *zap.Logger

	// Limits of JetStream in bytes. Zero means 16 GiB on disk, 256 MiB in memory,
	// and for the stream of samples a quarter of MaxStore.
	MaxStore   int64
	MaxMemory  int64
	MaxMetrics int64

	// StartTimeout bounds the opening of the store; zero means 5 minutes, which is
	// enough to rebuild the index of tens of gigabytes.
	StartTimeout time.Duration
}

func (c Config) withDefaults() Config {
	if c.ServerName == "" {
		c.ServerName = "hub"
	}
	if c.Log == nil {
		c.Log = zap.NewNop()
	}
	if c.MaxStore == 0 {
		c.MaxStore = 16 << 30
	}
	if c.MaxMemory == 0 {
		c.MaxMemory = 256 << 20
	}
	if c.MaxMetrics == 0 {
		c.MaxMetrics = c.MaxStore / 4
	}
	if c.StartTimeout == 0 {
		c.StartTimeout = 5 * time.Minute
	}
	return c
}

// Broker is a running NATS server.
type Broker struct {
	cfg    Config
	keys   *keys
	lock   *os.File
	server *server.Server
	own    *nats.Conn
	js     jetstream.JetStream

	closing sync.Once
}

// Open starts the server on cfg.Dir and returns when it is ready, JetStream
// included. Close ends it. Errors name the directory.
func Open(cfg Config) (*Broker, error) {
	cfg = cfg.withDefaults()
	if cfg.Dir == "" {
		return nil, errors.New("open broker: no directory given")
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("open broker in %s: %w", cfg.Dir, cause(err))
	}
	lock, err := lockDir(cfg.Dir)
	if err != nil {
		return nil, fmt.Errorf("open broker in %s: %w", cfg.Dir, err)
	}
	b := &Broker{cfg: cfg, lock: lock}
	if err := b.start(); err != nil {
		b.Close()
		return nil, fmt.Errorf("open broker in %s: %w", cfg.Dir, err)
	}
	return b, nil
}

func (b *Broker) start() (err error) {
	// A full disk shows here in one line, rather than in the middle of JetStream.
	if err := probe(b.cfg.Dir); err != nil {
		return err
	}
	if b.keys, err = loadKeys(b.cfg.Dir); err != nil {
		return err
	}
	log := newServerLog(b.cfg.Log)
	opts, err := b.options()
	if err != nil {
		return err
	}
	if b.server, err = server.NewServer(opts); err != nil {
		return fmt.Errorf("configure nats-server: %w", err)
	}
	b.server.SetLoggerV2(log, false, false, false)

	ready := make(chan bool, 1)
	go func() {
		b.server.Start()
		ready <- b.server.ReadyForConnections(b.cfg.StartTimeout)
	}()
	select {
	case text := <-log.fatal:
		return fmt.Errorf("start nats-server: %s", text)
	case ok := <-ready:
		if !ok {
			select {
			case text := <-log.fatal:
				return fmt.Errorf("start nats-server: %s", text)
			default:
				return fmt.Errorf("start nats-server: not ready after %s", b.cfg.StartTimeout)
			}
		}
	}
	if !b.server.JetStreamEnabled() {
		return errors.New("start nats-server: JetStream is not enabled")
	}
	if b.own, err = b.Connect("broker"); err != nil {
		return err
	}
	if b.js, err = jetstream.New(b.own); err != nil {
		return fmt.Errorf("open JetStream: %w", err)
	}
	return nil
}

func (b *Broker) options() (*server.Options, error) {
	operator, resolver, err := b.keys.claims()
	if err != nil {
		return nil, err
	}
	return &server.Options{
		ServerName: b.cfg.ServerName,
		DontListen: true,
		NoSigs:     true, // else it installs handlers that end the process
		NoLog:      true, // SetLoggerV2 instead

		JetStream:              true,
		StoreDir:               b.cfg.Dir,
		JetStreamMaxStore:      b.cfg.MaxStore,
		JetStreamMaxMemory:     b.cfg.MaxMemory,
		DisableJetStreamBanner: true,
		SyncAlways:             true, // the hub's objects live here

		TrustedOperators: []*jwt.OperatorClaims{operator},
		AccountResolver:  resolver,
		SystemAccount:    b.keys.systemPublic,

		MaxConn:        100_000,
		MaxPayload:     wire.MaxPayload,
		MaxControlLine: 4096,
		MaxPending:     32 << 20,
		// An answer of a megabyte takes a slow link longer than this: only a
		// connection that took nothing at all meanwhile is cut. The gateway, which
		// sees each piece, decides sooner.
		WriteDeadline: 20 * time.Second,
		WriteTimeout:  server.WriteTimeoutPolicyRetry,

		AuthTimeout:           30, // seconds: a CONNECT is slow in a storm
		PingInterval:          30 * time.Second,
		DisableShortFirstPing: true,
		MaxClosedClients:      100,
	}, nil
}

// Close ends the server after JetStream has written everything down, and
// releases the directory. Connections of the hub's own parts should be closed
// before. More calls do nothing.
func (b *Broker) Close() error {
	b.closing.Do(func() {
		if b.own != nil {
			b.own.Close()
		}
		if b.server != nil {
			b.server.Shutdown()
			b.server.WaitForShutdown()
		}
		b.lock.Close() //nolint:errcheck // releases the flock; nothing was written
	})
	return nil
}

// Healthy returns nil while the server runs and JetStream takes writes: after an
// error of the disk nats-server turns JetStream off until the next start.
func (b *Broker) Healthy() error {
	switch {
	case !b.server.Running():
		return errors.New("nats-server has stopped")
	case !b.server.JetStreamEnabled():
		return fmt.Errorf("JetStream has stopped after a storage error; free space in %s and restart the hub", b.cfg.Dir)
	}
	return nil
}

// Connect opens an in-process connection with all permissions in the
// application account; name shows up in nats-server's own monitoring. It
// reconnects for ever. The caller closes it.
func (b *Broker) Connect(name string, opts ...nats.Option) (*nats.Conn, error) {
	user, err := nkeys.CreateUser()
	if err != nil {
		return nil, fmt.Errorf("create user key: %w", err)
	}
	token, err := b.keys.hubUser(name, user)
	if err != nil {
		return nil, err
	}
	all := append([]nats.Option{
		nats.Name(name),
		nats.InProcessServer(b.server),
		nats.UserJWT(func() (string, error) { return token, nil }, user.Sign),
		nats.MaxReconnects(-1),
		nats.ReconnectWait(100 * time.Millisecond),
		nats.IgnoreAuthErrorAbort(),
	}, opts...)
	nc, err := nats.Connect(nats.DefaultURL, all...)
	if err != nil {
		return nil, fmt.Errorf("connect %s to the broker: %w", name, err)
	}
	return nc, nil
}

// JetStream is the broker's own JetStream context, valid until Close.
func (b *Broker) JetStream() jetstream.JetStream { return b.js }

// DialAgent opens one raw NATS client connection for the bytes of an agent. It
// has no identity before a CONNECT with a Credential.
func (b *Broker) DialAgent(context.Context) (net.Conn, error) {
	conn, err := b.server.InProcessConn()
	if err != nil {
		return nil, fmt.Errorf("open in-process connection: %w", err)
	}
	return conn, nil
}
