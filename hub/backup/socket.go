// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"go.uber.org/zap"
)

// socketFile is where a running hub gives backups to who may read its data dir.
const socketFile = "hub.sock"

// errNotRunning: nobody listens on the socket.
var errNotRunning = errors.New("no hub runs on the data dir")

func socketPath(dataDir string) string { return filepath.Join(dataDir, socketFile) }

// Serve gives backups of the hub on a socket in its data dir until ctx ends. Only
// the data dir's owner can reach it.
func (s Source) Serve(ctx context.Context, log *zap.Logger) error {
	path := socketPath(s.DataDir)
	// A former process's socket is in the way; the lock on the data dir says that
	// it is gone.
	err := os.Remove(path)
	var l net.Listener
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		l, err = listenUnix(path)
	}
	if err != nil {
		// The path may be longer than a socket's can be. The hub's work does not
		// depend on it.
		log.Warn("no local socket: a backup needs this hub to be stopped", zap.Error(err))
		<-ctx.Done()
		return ctx.Err()
	}
	var requests sync.WaitGroup
	srv := &http.Server{ReadHeaderTimeout: 5 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		defer requests.Done()
		s.answer(w, r, log)
	})}
	defer requests.Wait()
	stop := context.AfterFunc(ctx, func() { srv.Close() }) //nolint:errcheck // the listener is gone either way
	defer stop()
	err = srv.Serve(l)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// listenUnix makes the socket for its owner alone. Until the mode is set the
// mode 0700 of the directory protects it.
func listenUnix(path string) (net.Listener, error) {
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, 0o600); err != nil {
		l.Close() //nolint:errcheck // the mode is what matters
		return nil, err
	}
	return l, nil
}

func (s Source) answer(w http.ResponseWriter, r *http.Request, log *zap.Logger) {
	if r.Method != http.MethodGet || r.URL.Path != "/backup" {
		http.NotFound(w, r)
		return
	}
	out := &counter{w: w}
	began := time.Now()
	m, err := s.Write(r.Context(), out)
	switch {
	case err == nil:
		log.Info("backup given", zap.Uint64("revision", m.Revision), zap.Int("objects", m.Objects),
			zap.Int64("bytes", out.n), zap.Duration("took", time.Since(began)))
	case out.n == 0:
		http.Error(w, err.Error(), http.StatusInternalServerError)
	default:
		log.Warn("backup broke off", zap.Error(err))
		panic(http.ErrAbortHandler) // the other side sees that it is not whole
	}
}

type counter struct {
	w io.Writer
	n int64
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}

func dial(ctx context.Context, dataDir string) (net.Conn, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", socketPath(dataDir))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.EINVAL) {
		return nil, errNotRunning
	}
	return conn, err
}

func running(dataDir string) bool {
	conn, err := dial(context.Background(), dataDir)
	if err == nil {
		conn.Close() //nolint:errcheck // nothing was sent
	}
	return err == nil
}

// ask takes a backup from the hub that runs; errNotRunning: none does.
func ask(ctx context.Context, dataDir string, w io.Writer) error {
	transport := &http.Transport{
		DisableCompression: true,
		DialContext:        func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx, dataDir) },
	}
	defer transport.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://hub/backup", nil)
	if err != nil {
		return err
	}
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		if errors.Is(err, errNotRunning) {
			return errNotRunning
		}
		return fmt.Errorf("ask the hub: %w", err)
	}
	defer resp.Body.Close() //nolint:errcheck // read to its end
	if resp.StatusCode != http.StatusOK {
		text, err := io.ReadAll(io.LimitReader(resp.Body, 4096))
		if err != nil {
			return fmt.Errorf("ask the hub: %w", err)
		}
		return fmt.Errorf("the hub could not make a backup: %s", strings.TrimSpace(string(text)))
	}
	if _, err := io.Copy(w, resp.Body); err != nil {
		return fmt.Errorf("the hub's backup broke off: %w", err)
	}
	return nil
}
