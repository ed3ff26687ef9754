// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

// Command build makes hub/web/dist, the dashboard as browsers load it, of the
// sources beside it. It needs nothing but Go.
package main

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"time"

	"github.com/drover-io/drover/hub/web/bundle"
	"github.com/drover-io/drover/hub/web/typescript"
)

func main() {
	dir := flag.String("dir", "hub/web", "the sources; dist is made in there")
	out := flag.String("out", "", "where the files go (default: dist in the sources)")
	watch := flag.Bool("watch", false, "build again after every change")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *dir, cmp.Or(*out, filepath.Join(*dir, "dist")), *watch, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "build:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, dir, dist string, watch bool, out io.Writer) error {
	if err := generate(filepath.Join(dir, "src")); err != nil {
		return err
	}
	if !watch {
		files, err := bundle.Build(dir)
		if err != nil {
			return err
		}
		report(out, files)
		return files.Write(dist)
	}
	stop, err := bundle.Watch(dir, func(files bundle.Files, err error) {
		if err == nil {
			err = files.Write(dist)
		}
		if err != nil {
			fmt.Fprintln(out, err)
			return
		}
		fmt.Fprintln(out, time.Now().Format(time.TimeOnly), "built")
	})
	if err != nil {
		return err
	}
	defer stop()
	<-ctx.Done()
	return nil
}

// generate writes the sources that the Go structs make.
func generate(src string) error {
	files, err := typescript.Files()
	if err != nil {
		return err
	}
	for name, text := range files {
		file := filepath.Join(src, name)
		if have, err := os.ReadFile(file); err == nil && bytes.Equal(have, text) {
			continue // a watcher would see a change
		}
		if err := os.WriteFile(file, text, 0o644); err != nil {
			return err
		}
	}
	return nil
}

func report(out io.Writer, files bundle.Files) {
	for _, name := range files.Names() {
		var packed bytes.Buffer
		w, _ := gzip.NewWriterLevel(&packed, gzip.BestCompression) // a level that exists
		_, _ = w.Write(files[name])
		_ = w.Close()
		fmt.Fprintf(out, "%8d %8d gz  %s\n", len(files[name]), packed.Len(), name)
	}
}
