// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

// registrytest is an OCI registry for tests, the distribution project's own, with
// its content in memory.
//
//	registrytest --listen HOST:PORT --url FILE
//
// It writes its address to FILE once it serves.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"

	"github.com/distribution/distribution/v3/configuration"
	"github.com/distribution/distribution/v3/registry/handlers"
	_ "github.com/distribution/distribution/v3/registry/storage/driver/inmemory"
)

func main() {
	listen := flag.String("listen", "127.0.0.1:0", "address")
	file := flag.String("url", "", "file for the address")
	flag.Parse()
	if err := serve(*listen, *file); err != nil {
		fmt.Fprintln(os.Stderr, "registrytest:", err)
		os.Exit(1)
	}
}

func serve(listen, file string) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	l, err := net.Listen("tcp", listen)
	if err != nil {
		return err
	}
	cfg := &configuration.Configuration{Storage: configuration.Storage{"inmemory": configuration.Parameters{}}}
	cfg.Log.Level = "error"
	cfg.HTTP.Secret = "for tests only"
	srv := &http.Server{Handler: handlers.NewApp(ctx, cfg)}
	if err := os.WriteFile(file+".new", []byte(l.Addr().String()), 0o600); err != nil {
		return err
	}
	if err := os.Rename(file+".new", file); err != nil {
		return err
	}
	context.AfterFunc(ctx, func() { srv.Close() })
	if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
