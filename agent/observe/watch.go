// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package observe

import (
	"context"
	"errors"
	"math/rand/v2"
	"strconv"
	"sync"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
)

const (
	retryFirst = 200 * time.Millisecond
	retryMax   = 10 * time.Second
	// brief is how long a stream must have lived for the next one to follow at once.
	brief = time.Second
	// fewNew is how many objects that were not looked at yet are read one by one
	// instead of listing again.
	fewNew = 20
	// gather is between two interruptions of a stream: objects that come one after
	// the other are looked at together. The first after a pause is so at once.
	gather        = 250 * time.Millisecond
	parallelReads = 4
)

// watch keeps one scope in sight. It resumes where it was as long as the API
// server remembers, and lists again when not.
type watch struct {
	observer *Observer
	scope    scope
	end      context.CancelFunc // ends run

	mu      sync.Mutex
	seen    map[types.NamespacedName]sight
	restart context.CancelFunc // of the stream that runs, nil for none
	last    string             // error that was logged last
}

// sight is what was handed over last of an object.
type sight struct {
	known   bool
	gone    bool
	version string // of the resource
}

func newWatch(o *Observer, s scope) *watch {
	return &watch{observer: o, scope: s, seen: make(map[types.NamespacedName]sight)}
}

// follow replaces the objects of interest. New ones interrupt the stream, so
// that they are looked at.
func (w *watch) follow(wanted names) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for name := range w.seen {
		if !wanted[name] {
			delete(w.seen, name)
		}
	}
	added := false
	for name := range wanted {
		if _, ok := w.seen[name]; !ok {
			w.seen[name], added = sight{}, true
		}
	}
	if added && w.restart != nil {
		w.restart()
	}
}

// run watches until ctx ends.
func (w *watch) run(ctx context.Context) {
	version, failures := "", 0
	for ctx.Err() == nil {
		began := time.Now()
		sctx, interrupt := w.interruptible(ctx)
		next, err := w.turn(sctx, version)
		interrupted := sctx.Err() != nil
		interrupt()
		version = next
		switch {
		case ctx.Err() != nil:
			return
		case interrupted:
			failures = 0
			if !sleep(ctx, gather-time.Since(began)) {
				return
			}
			continue
		case err == nil && time.Since(began) > brief:
			failures = 0
			continue
		case expired(err):
			version = ""
		case apierrors.IsNotFound(err):
			// The kind is not served. Its objects went with it.
			version = ""
			w.allGone(nil)
		}
		if time.Since(began) > brief {
			failures = 0
		}
		failures++
		w.note(err)
		timer := time.NewTimer(backOff(failures))
		sctx, interrupt = w.interruptible(ctx)
		select {
		case <-sctx.Done():
		case <-timer.C:
		}
		timer.Stop()
		interrupt()
	}
}

// interruptible returns a context that also ends when objects are added.
func (w *watch) interruptible(ctx context.Context) (context.Context, context.CancelFunc) {
	sctx, cancel := context.WithCancel(ctx)
	w.mu.Lock()
	w.restart = cancel
	w.mu.Unlock()
	return sctx, cancel
}

// sleep waits, and says whether ctx goes on.
func sleep(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

func backOff(failures int) time.Duration {
	d := min(retryFirst<<min(failures-1, 10), retryMax)
	return d/2 + rand.N(d)
}

// note logs an error when it is another one than before.
func (w *watch) note(err error) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	w.mu.Lock()
	changed := text != w.last
	w.last = text
	w.mu.Unlock()
	if changed && err != nil {
		w.observer.cfg.Log.Warn("watching objects is interrupted, will try again",
			zap.Stringer("resource", w.scope.resource.GroupResource()), zap.String("namespace", w.scope.namespace), zap.Error(err))
	}
}

// turn looks at what was not looked at yet, then follows the stream from
// version. It returns the version up to which everything was seen.
func (w *watch) turn(ctx context.Context, version string) (string, error) {
	var err error
	if version != "" {
		fresh := w.unseen()
		if len(fresh) > fewNew {
			version = ""
		} else if err := w.read(ctx, fresh); err != nil {
			return version, err
		}
	}
	if version == "" {
		if version, err = w.list(ctx); err != nil {
			return "", err
		}
	}
	w.note(nil)
	return w.stream(ctx, version)
}

// unseen returns the objects that were never looked at.
func (w *watch) unseen() []types.NamespacedName {
	w.mu.Lock()
	defer w.mu.Unlock()
	var fresh []types.NamespacedName
	for name, s := range w.seen {
		if !s.known {
			fresh = append(fresh, name)
		}
	}
	return fresh
}

// list hands over every object of interest as it is, and returns a version from
// which to watch. Where others outnumber them by far, it reads them one by one.
func (w *watch) list(ctx context.Context) (string, error) {
	o := w.observer
	o.mu.Lock()
	o.stats.Lists++
	o.mu.Unlock()
	w.mu.Lock()
	mine := make([]types.NamespacedName, 0, len(w.seen))
	for name := range w.seen {
		mine = append(mine, name)
	}
	w.mu.Unlock()

	first, err := o.page(ctx, w.scope, "", 1)
	if err != nil {
		return "", err
	}
	version := first.Metadata.ResourceVersion
	others := first.Metadata.RemainingItemCount
	switch {
	case first.Metadata.Continue == "":
		return version, w.take(first, mine)
	case others > int64(2*len(mine)+100), others == 0 && len(mine) <= fewNew:
		return version, w.read(ctx, mine)
	}
	all := page{}
	for next := ""; ; next = all.Metadata.Continue {
		if all, err = o.page(ctx, w.scope, next, pageSize); err != nil {
			return "", err
		}
		if next == "" {
			version = all.Metadata.ResourceVersion
		}
		rest := mine[:0]
		present := all.names()
		for _, name := range mine {
			if !present[name] {
				rest = append(rest, name)
			}
		}
		mine = rest
		if err := w.take(all, nil); err != nil {
			return "", err
		}
		if all.Metadata.Continue == "" {
			break
		}
	}
	w.allGone(mine)
	return version, nil
}

// take hands over what of a page is of interest, and says of those in missing
// that are not there that they do not exist.
func (w *watch) take(p page, missing []types.NamespacedName) error {
	present := p.names()
	for _, item := range p.Items {
		if err := w.present(item, p.kind()); err != nil {
			return err
		}
	}
	var gone []types.NamespacedName
	for _, name := range missing {
		if !present[name] {
			gone = append(gone, name)
		}
	}
	if len(gone) > 0 {
		w.allGone(gone)
	}
	return nil
}

// read looks at objects one by one.
func (w *watch) read(ctx context.Context, objects []types.NamespacedName) error {
	group, gctx := errgroup.WithContext(ctx)
	group.SetLimit(parallelReads)
	for _, name := range objects {
		group.Go(func() error {
			raw, err := w.observer.get(gctx, w.scope.resource, name)
			if apierrors.IsNotFound(err) {
				w.allGone([]types.NamespacedName{name})
				return nil
			}
			if err != nil {
				return err
			}
			return w.present(raw, typeMeta{})
		})
	}
	return group.Wait()
}

// present hands an object over if it is of interest and newer than what was
// handed over before.
func (w *watch) present(raw []byte, kind typeMeta) error {
	head, err := headOf(raw)
	if err != nil {
		return err
	}
	name := head.name()
	w.mu.Lock()
	last, mine := w.seen[name]
	mine = mine && !(last.known && notAfter(head.Metadata.ResourceVersion, last.version))
	if mine {
		w.seen[name] = sight{known: true, version: head.Metadata.ResourceVersion}
	}
	w.mu.Unlock()
	if !mine {
		return nil
	}
	live, err := decode(raw, kind)
	if err != nil {
		return err
	}
	w.observer.cfg.Changed(w.scope.resource, name, live)
	return nil
}

// deleted notes that an object was deleted at a version.
func (w *watch) deleted(head head) {
	name := head.name()
	w.mu.Lock()
	last, mine := w.seen[name]
	mine = mine && !last.gone && !(last.known && notAfter(head.Metadata.ResourceVersion, last.version))
	if mine {
		w.seen[name] = sight{known: true, gone: true, version: head.Metadata.ResourceVersion}
	}
	w.mu.Unlock()
	if mine {
		w.observer.cfg.Changed(w.scope.resource, name, nil)
	}
}

// allGone notes that objects do not exist; nil means all of interest.
func (w *watch) allGone(objects []types.NamespacedName) {
	var gone []types.NamespacedName
	w.mu.Lock()
	if objects == nil {
		for name := range w.seen {
			objects = append(objects, name)
		}
	}
	for _, name := range objects {
		if last, mine := w.seen[name]; mine && !last.gone {
			w.seen[name] = sight{known: true, gone: true, version: last.version}
			gone = append(gone, name)
		}
	}
	w.mu.Unlock()
	for _, name := range gone {
		w.observer.cfg.Changed(w.scope.resource, name, nil)
	}
}

// notAfter compares resource versions, which are numbers that grow in every API
// server of Kubernetes itself. Others are only ever equal or not.
func notAfter(version, than string) bool {
	a, errA := strconv.ParseUint(version, 10, 64)
	b, errB := strconv.ParseUint(than, 10, 64)
	if errA != nil || errB != nil {
		return version == than
	}
	return a <= b
}

// expired says that the API server does not remember the version any more.
func expired(err error) bool {
	return apierrors.IsResourceExpired(err) || apierrors.IsGone(err) || errors.Is(err, errUnordered)
}

var errUnordered = errors.New("the stream cannot be understood")
