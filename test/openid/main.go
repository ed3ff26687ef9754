// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

// Openidtest is an OpenID Connect provider for tests of logins, made of
// github.com/ory/fosite: authorization code with PKCE, refresh with rotation,
// revocation, and the device flow. It keeps everything in memory, has no login
// page for people and must never be reached from outside.
//
//	openidtest --dir DIR [--listen HOST:PORT] --user NAME:PASSWORD:GROUP,GROUP ... [--life 5m]
//
// It writes DIR/ca.crt, which clients must trust, and then DIR/issuer.url.
package main

import (
	"context"
	"crypto/tls"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "openidtest: error:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("openidtest", flag.ContinueOnError)
	dir := flags.String("dir", "", "folder for ca.crt and issuer.url")
	listen := flags.String("listen", "127.0.0.1:0", "address; port 0 picks one")
	life := flags.Duration("life", 5*time.Minute, "of access and ID tokens")
	users := map[string]*account{}
	flags.Func("user", "NAME:PASSWORD:GROUP,GROUP", func(text string) error {
		part := strings.SplitN(text, ":", 3)
		if len(part) != 3 {
			return fmt.Errorf("want NAME:PASSWORD:GROUP,GROUP")
		}
		users[part[0]] = &account{password: part[1], groups: strings.Split(part[2], ",")}
		return nil
	})
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *dir == "" {
		return fmt.Errorf("dir: missing")
	}
	cert, ca, err := certificate(*dir)
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", *listen)
	if err != nil {
		return err
	}
	defer l.Close()
	issuer := "https://" + l.Addr().String()
	p, err := newProvider(issuer, users, *life)
	if err != nil {
		return err
	}
	server := &http.Server{
		Handler: p.handler(), ReadHeaderTimeout: 10 * time.Second,
		TLSConfig: &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12},
	}
	context.AfterFunc(ctx, func() { server.Close() })
	if err := write(filepath.Join(*dir, "ca.crt"), ca); err != nil {
		return err
	}
	if err := write(filepath.Join(*dir, "issuer.url"), []byte(issuer+"\n")); err != nil {
		return err
	}
	if err := server.ServeTLS(l, "", ""); ctx.Err() == nil {
		return err
	}
	return nil
}

// write leaves no half-written file for who waits for it.
func write(path string, data []byte) error {
	if err := os.WriteFile(path+".new", data, 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}
