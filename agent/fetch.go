// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/klauspost/compress/zstd"
	"go.uber.org/zap"

	"github.com/drover-io/drover/agent/state"
	"github.com/drover-io/drover/shared/daemon"
	"github.com/drover-io/drover/shared/wire"
)

const (
	// maxBundle is the largest bundle in bytes, uncompressed; packed is a little
	// more for what does not compress.
	maxBundle = 32 << 20
	maxPacked = maxBundle + 1<<20

	fetchTries = 4
	fetchPause = time.Second
	fetchLast  = time.Minute
	// fetchStall ends an attempt on which nothing arrives any more; the next one
	// goes on where it was.
	fetchStall = 45 * time.Second
)

// fetcher downloads bundles, one at a time: they may be large and the link thin.
type fetcher struct {
	dir  *state.Dir
	urls []string
	tls  func() *tls.Config
	log  *zap.Logger

	mu   sync.Mutex
	next int // which of the hub's addresses
}

// fetchError is an answer that will be the same for a while.
type fetchError struct {
	status  int
	message string
	after   time.Duration
}

func (e *fetchError) Error() string { return e.message }

// bundle opens what a digest names, from disk or from the hub. What was
// downloaded of it survives an error and a restart. It is an *os.File.
func (f *fetcher) bundle(ctx context.Context, digest string) (io.ReadCloser, error) {
	file, err := f.dir.OpenContent(digest)
	if !errors.Is(err, fs.ErrNotExist) {
		return file, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if file, err = f.dir.OpenContent(digest); !errors.Is(err, fs.ErrNotExist) {
		return file, err // somebody else was waiting for the same
	}
	pause := fetchPause
	for try := 1; ; try++ {
		err := f.attempt(ctx, digest)
		if err == nil {
			return f.dir.OpenContent(digest)
		}
		var answer *fetchError
		if ctx.Err() != nil || try == fetchTries || errors.As(err, &answer) && answer.status < 500 {
			return nil, fmt.Errorf("fetch bundle %s: %w", digest, err)
		}
		f.next++
		wait := pause/2 + rand.N(pause)
		if answer != nil {
			wait = max(wait, min(answer.after, fetchLast))
		}
		f.log.Warn("fetching a bundle failed, will go on", zap.String("digest", digest), zap.Duration("in", wait), zap.Error(err))
		if !daemon.Sleep(ctx, wait) {
			return nil, ctx.Err()
		}
		pause = min(2*pause, fetchLast)
	}
}

// attempt goes on with the download, and checks and keeps the whole.
func (f *fetcher) attempt(ctx context.Context, digest string) error {
	part, have, err := f.dir.OpenPart(digest)
	if err != nil {
		return err
	}
	defer part.Close() //nolint:errcheck // synced before it counts
	if err := f.download(ctx, digest, part, have); err != nil {
		return err
	}
	if _, err := part.Seek(0, io.SeekStart); err != nil {
		return err
	}
	err = f.unpack(digest, part)
	if errors.Is(err, syscall.ENOSPC) {
		return err // what was downloaded is good
	}
	// Whatever else it is, it is not the bundle, and would not become it.
	return errors.Join(err, f.dir.DropPart(digest))
}

// download appends to part, of which have bytes are there, until it is whole.
func (f *fetcher) download(ctx context.Context, digest string, part *os.File, have int64) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stall := time.AfterFunc(fetchStall, func() { cancel(errors.New("nothing arrives any more")) })
	defer stall.Stop()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet,
		strings.TrimSuffix(f.urls[f.next%len(f.urls)], "/")+wire.PathContent+"/"+digest, nil)
	if err != nil {
		return err
	}
	req.Header.Set("Accept-Encoding", "zstd")
	if have > 0 {
		req.Header.Set("Range", "bytes="+strconv.FormatInt(have, 10)+"-")
		req.Header.Set("If-Range", `"`+digest+`+zstd"`)
	}
	client := &http.Client{
		Transport:     &http.Transport{Proxy: http.ProxyFromEnvironment, TLSClientConfig: f.tls(), DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	defer client.CloseIdleConnections()
	resp, err := client.Do(req)
	if err != nil {
		return cause(ctx, unwrapURL(err))
	}
	defer resp.Body.Close() //nolint:errcheck // read as far as needed
	switch {
	case resp.StatusCode == http.StatusRequestedRangeNotSatisfiable:
		return nil // the whole is there already; if it is not, its digest says so
	case resp.StatusCode == http.StatusPartialContent && have > 0 && strings.HasPrefix(resp.Header.Get("Content-Range"), fmt.Sprintf("bytes %d-", have)):
	case resp.StatusCode == http.StatusOK:
		if err := part.Truncate(0); err != nil {
			return err
		}
		have = 0
	default:
		return answerOf(resp)
	}
	if resp.Header.Get("Content-Encoding") != "zstd" {
		return &fetchError{status: http.StatusNotAcceptable, message: "the hub's answer is not packed as asked for"}
	}
	n, err := io.Copy(part, &watched{r: io.LimitReader(resp.Body, maxPacked-have+1), reset: func() { stall.Reset(fetchStall) }})
	if err == nil && have+n > maxPacked {
		return errors.Join(&fetchError{status: http.StatusRequestEntityTooLarge, message: "the bundle is larger than any can be"}, f.dir.DropPart(digest))
	}
	return errors.Join(cause(ctx, err), part.Sync())
}

// cause is err, or what ended ctx.
func cause(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

func answerOf(resp *http.Response) error {
	e := &fetchError{status: resp.StatusCode, message: "the hub answered " + resp.Status}
	if s, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil {
		e.after = time.Duration(s) * time.Second
	}
	text, err := io.ReadAll(io.LimitReader(resp.Body, 4096))
	var refusal wire.Refusal
	if err == nil && json.Unmarshal(text, &refusal) == nil && refusal.Message != "" {
		e.message += ": " + refusal.Message
	}
	return e
}

// watched tells when bytes arrive.
type watched struct {
	r     io.Reader
	reset func()
}

func (w *watched) Read(p []byte) (int, error) {
	n, err := w.r.Read(p)
	if n > 0 {
		w.reset()
	}
	return n, err
}

// unpack stores what zstd frames of at most maxBundle bytes hold.
func (f *fetcher) unpack(digest string, r io.Reader) error {
	dec, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxBundle+1<<20), zstd.WithDecoderMaxWindow(maxBundle))
	if err != nil {
		return fmt.Errorf("unpack bundle: %w", err)
	}
	defer dec.Close()
	if err := f.dir.PutContentFrom(digest, dec, maxBundle); err != nil {
		return fmt.Errorf("unpack bundle: %w", err)
	}
	return nil
}
