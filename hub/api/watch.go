// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package api

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/drover-io/drover/hub/store"
)

const (
	// watchTimeout is the shortest life of a watch without timeoutSeconds; up to
	// as much again is added by chance, so that watches do not end together.
	watchTimeout = 30 * time.Minute
	// writeTimeout bounds one write to a watching client.
	writeTimeout = 30 * time.Second
)

// annotationInitialEnd marks the bookmark after the initial events of a watch.
const annotationInitialEnd = "k8s.io/initial-events-end"

// errRights ends a watch whose caller may now see something else.
var errRights = apierrors.NewResourceExpired("what you may see has changed: list again")

// watch streams changes until the client goes, the time is over, the store ends
// the watch, or the caller may see something else than when it began.
func (c *call) watch() error {
	if err := c.negotiate(formTable, formPartial); err != nil {
		return err
	}
	sel, err := c.selection()
	if err != nil {
		return err
	}
	if err := c.resumable(sel); err != nil {
		return err
	}
	out, err := c.renderer()
	if err != nil {
		return err
	}
	timeout := watchTimeout + rand.N(watchTimeout)
	if sel.TimeoutSeconds != nil && *sel.TimeoutSeconds > 0 {
		timeout = time.Duration(*sel.TimeoutSeconds) * time.Second
	}
	ctx, cancel := context.WithTimeout(c.r.Context(), timeout)
	defer cancel()
	// what is served no longer, or in another form, is not watched any more
	defer context.AfterFunc(c.res.gone, cancel)()
	w, err := c.store.Watch(ctx, c.watchSelection(sel))
	if err != nil {
		return err
	}
	defer w.Stop()

	s := &stream{c: c, out: out, control: http.NewResponseController(c.w), columns: true}
	s.bookmarks = sel.AllowWatchBookmarks
	s.initialEnd = sel.SendInitialEvents != nil && *sel.SendInitialEvents
	c.accept.yaml = false
	c.w.Header().Set("Content-Type", "application/json")
	c.writeWarnings()
	c.w.WriteHeader(http.StatusOK)
	s.unsent = true
	if err := s.flush(); err != nil {
		return err
	}
	next, release := c.untilChange(ctx)
	defer func() { release() }()
	for {
		ev, ok, err := w.Ready()
		if !ok {
			// what was written is sent before waiting, several events at once
			if err := s.flush(); err != nil {
				return err
			}
			ev, err = w.Next(next)
		}
		// before every event: those queued when a permission ended are not for it
		if c.view.changed.Err() != nil && ctx.Err() == nil {
			before := c.view
			if c.view, err = c.look("watch"); err != nil || !c.view.same(before) {
				return s.failure(errRights)
			}
			release()
			next, release = c.untilChange(ctx)
			if ev.Type == 0 {
				continue
			}
			err = nil
		}
		switch {
		case err == nil:
			if err := s.event(ev); err != nil {
				return err
			}
		case ctx.Err() != nil, errors.Is(err, store.ErrStopped), errors.Is(err, store.ErrSlow):
			// A clean end: the client goes on from the last revision it saw.
			return nil
		default:
			return s.failure(err)
		}
	}
}

// untilChange returns a context that also ends when the caller may see something else.
func (c *call) untilChange(ctx context.Context) (context.Context, func()) {
	out, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(c.view.changed, cancel)
	return out, func() { stop(); cancel() }
}

func (c *call) watchSelection(sel *selection) store.WatchSelection {
	out := store.WatchSelection{
		Resource: c.res.StoreResource(), Labels: sel.labels, Match: c.view.restrict(sel.match), Name: sel.name, From: sel.revision,
	}
	if sel.name != "" {
		out.Match = c.view.restrict(nil)
	}
	if c.res.Namespaced {
		out.Namespace = c.info.Namespace
	}
	switch initial := sel.SendInitialEvents; {
	case initial != nil && *initial:
		out.From, out.MinRevision = 0, minRevision(sel)
	case initial != nil && out.From == 0:
		// "from now on"
		out.From = c.store.Revision()
	case out.From == 0:
		out.MinRevision = minRevision(sel)
	}
	return out
}

// stream is the answer to one watch.
type stream struct {
	c          *call
	out        *renderer
	control    *http.ResponseController
	bookmarks  bool // the client wants them
	initialEnd bool // the client waits for the end of the initial events
	columns    bool // not yet sent, in tables
	unsent     bool // something is written and not flushed
	stalled    *time.Timer
	buf        []byte
}

func (s *stream) event(ev store.Event) error {
	switch ev.Type {
	case store.Added:
		return s.object("ADDED", ev.Entry)
	case store.Modified:
		return s.object("MODIFIED", ev.Entry)
	case store.Deleted:
		return s.object("DELETED", ev.Entry)
	}
	end := ev.Initial && s.initialEnd
	if !s.bookmarks || ev.Initial && !end {
		return nil
	}
	return s.bookmark(ev.Entry.Revision, end)
}

func (s *stream) object(kind string, e store.Entry) error {
	s.c.sent.Add(1)
	if s.c.accept.as == formTable {
		data, err := s.out.single(e, s.columns)
		if err != nil {
			return err
		}
		s.columns = false
		return s.send(kind, data)
	}
	k := lineKey{kind, s.c.res.GVK, e.Key, e.Revision, s.c.accept.as, s.c.accept.version}
	line, ok := s.c.lines.get(k)
	if !ok {
		data, err := s.out.single(e, false)
		if err != nil {
			return err
		}
		line = appendLine(make([]byte, 0, len(data)+40), kind, data)
		s.c.lines.put(k, line)
	}
	return s.write(line)
}

// bookmark tells the client how far it is; an object with nothing but a revision.
func (s *stream) bookmark(revision uint64, initialEnd bool) error {
	if revision == 0 {
		return nil
	}
	gvk := s.c.res.GVK
	apiVersion, kind := gvk.GroupVersion().String(), gvk.Kind
	switch s.c.accept.as {
	case formPartial:
		apiVersion, kind = "meta.k8s.io/"+s.c.accept.version, formPartial
	case formTable:
		apiVersion, kind = "meta.k8s.io/"+s.c.accept.version, formTable
	}
	metadata := map[string]any{"resourceVersion": revisionText(revision)}
	if initialEnd {
		metadata["annotations"] = map[string]string{annotationInitialEnd: "true"}
	}
	obj := map[string]any{"apiVersion": apiVersion, "kind": kind, "metadata": metadata}
	if s.c.accept.as == formTable {
		// kubectl reads the revision of a table from its row
		row := map[string]any{"apiVersion": "meta.k8s.io/" + s.c.accept.version, "kind": formPartial, "metadata": metadata}
		obj = map[string]any{
			"apiVersion": apiVersion, "kind": kind, "metadata": map[string]any{"resourceVersion": revisionText(revision)},
			"columnDefinitions": []any{}, "rows": []any{map[string]any{"cells": []any{}, "object": row}},
		}
	}
	data := mustJSON(obj)
	return s.send("BOOKMARK", data[:len(data)-1])
}

// failure ends the stream with an error that the client can read.
func (s *stream) failure(err error) error {
	status := s.c.statusOf(err)
	status.TypeMeta = metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}
	data := mustJSON(status)
	return s.send("ERROR", data[:len(data)-1])
}

func (s *stream) send(kind string, object []byte) error {
	s.buf = appendLine(s.buf[:0], kind, object)
	return s.write(s.buf)
}

func appendLine(dst []byte, kind string, object []byte) []byte {
	dst = append(append(append(dst, `{"type":"`...), kind...), `","object":`...)
	return append(append(dst, object...), "}\n"...)
}

func (s *stream) write(line []byte) error {
	s.unsent = true
	defer s.limit()()
	_, err := s.c.w.Write(line)
	return err
}

func (s *stream) flush() error {
	if !s.unsent {
		return nil
	}
	s.unsent = false
	defer s.limit()()
	return s.control.Flush()
}

// limit ends a write that takes too long. A deadline of the connection would do
// so too, but with HTTP/2 one that is left behind ends the watch when nothing is
// written, and each change of it wakes the connection.
func (s *stream) limit() (done func()) {
	if s.stalled == nil {
		s.stalled = time.AfterFunc(writeTimeout, func() {
			// not every connection has deadlines, those of tests for example
			_ = s.control.SetWriteDeadline(time.Now().Add(-time.Second))
		})
	} else {
		s.stalled.Reset(writeTimeout)
	}
	return func() { s.stalled.Stop() }
}
