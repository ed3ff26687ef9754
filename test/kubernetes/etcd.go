// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"syscall"

	"go.etcd.io/etcd/server/v3/embed"
)

// runEtcd is the command "etcd".
func runEtcd(ctx context.Context, args []string) error {
	fs := flag.NewFlagSet("etcd", flag.ContinueOnError)
	dir := fs.String("dir", "", "directory for data and logs; DIR/ready holds URL and process id once etcd serves")
	port := fs.Int("port", 0, "port on 127.0.0.1; 0 picks a free one")
	sync := fs.Bool("sync", false, syncHelp)
	if err := parse(fs, args); err != nil {
		return err
	}
	path, err := prepareDir(*dir)
	if err != nil {
		return err
	}

	e, addr, err := startEtcd(ctx, path, *port, *sync)
	if err != nil {
		return err
	}
	defer e.Close()
	if err := writeReady(path, addr); err != nil {
		return err
	}
	progress("etcd ready at %s", addr)

	select {
	case <-ctx.Done():
		return nil
	case err := <-e.Err():
		return fmt.Errorf("etcd: %w", err)
	}
}

const syncHelp = "let etcd sync every write to disk, as a real one does"

// startEtcd starts an etcd with its data in dir/etcd and returns it with its
// client URL once it serves. Without sync it does not sync to disk: a test's
// data need not survive a power cut.
func startEtcd(ctx context.Context, dir string, port int, sync bool) (*embed.Etcd, string, error) {
	loopback := func(port int) []url.URL {
		return []url.URL{{Scheme: "http", Host: net.JoinHostPort("127.0.0.1", strconv.Itoa(port))}}
	}
	cfg := embed.NewConfig()
	cfg.Dir = filepath.Join(dir, "etcd")
	cfg.ListenClientUrls, cfg.AdvertiseClientUrls = loopback(port), loopback(port)
	cfg.ListenPeerUrls, cfg.AdvertisePeerUrls = loopback(0), loopback(0)
	cfg.InitialCluster = cfg.InitialClusterFromName(cfg.Name)
	cfg.UnsafeNoFsync = !sync
	cfg.MaxTxnOps = 1024
	cfg.QuotaBackendBytes = 1 << 30
	cfg.EnableGRPCGateway = false // it dials the configured port, which may be 0
	cfg.LogLevel = "error"

	e, err := embed.StartEtcd(cfg)
	if err != nil {
		return nil, "", portError(port, fmt.Errorf("start etcd: %w", err))
	}
	select {
	case <-e.Server.ReadyNotify():
		return e, "http://" + e.Clients[0].Addr().String(), nil
	case err := <-e.Err():
		e.Close()
		return nil, "", fmt.Errorf("start etcd: %w", err)
	case <-ctx.Done():
		e.Close()
		return nil, "", fmt.Errorf("start etcd: %w", ctx.Err())
	}
}

// listen opens port on 127.0.0.1; 0 picks a free one.
func listen(port int) (*net.TCPListener, error) {
	l, err := net.Listen("tcp4", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil {
		return nil, portError(port, err)
	}
	return l.(*net.TCPListener), nil
}

// portError says in plain words that a port is taken; it returns any other
// err unchanged.
func portError(port int, err error) error {
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("port %d on 127.0.0.1 is in use: choose another with --port, or --port 0 for any free one", port)
	}
	if errors.Is(err, os.ErrPermission) {
		return fmt.Errorf("port %d on 127.0.0.1 may not be opened: choose one above 1023 with --port: %w", port, err)
	}
	return err
}
