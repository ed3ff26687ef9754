// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package live

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"go.uber.org/zap"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apiserver/pkg/authentication/user"

	"github.com/drover-io/drover/hub/store"
	"github.com/drover-io/drover/shared/apis/live"
)

// maxSubscriptions of one stream.
const maxSubscriptions = 64

// stream is one client.
type stream struct {
	live    *Live
	r       *http.Request
	w       http.ResponseWriter
	control *http.ResponseController
	who     user.Info
	since   uint64
	subs    []subscription

	wrote time.Time // the last frame
	valid time.Time // the credential was good
}

// serveLive streams frames until the client goes, base ends, or the client must
// begin anew.
func (l *Live) serveLive(base context.Context, w http.ResponseWriter, r *http.Request) {
	who, err := l.who(r)
	if err != nil {
		l.refuse(w, r, err)
		return
	}
	s := &stream{live: l, w: w, control: http.NewResponseController(w), who: who}
	if s.subs, s.since, err = l.parse(r.URL.Query()); err != nil {
		l.refuse(w, r, apierrors.NewBadRequest(err.Error()))
		return
	}
	release, err := l.take(who)
	if err != nil {
		l.refuse(w, r, err)
		return
	}
	defer release()
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	defer context.AfterFunc(base, cancel)()
	s.r = r.WithContext(ctx)
	defer func() {
		for _, sub := range s.subs {
			sub.end()
		}
	}()
	h := w.Header()
	h.Set("Content-Type", "application/x-ndjson")
	h.Set("Cache-Control", "no-store, no-transform")
	h.Set("X-Accel-Buffering", "no")
	h.Set("X-Content-Type-Options", "nosniff")
	err = s.run(ctx)
	switch {
	case err == nil, ctx.Err() != nil, errors.Is(err, store.ErrStopped):
	case errors.Is(err, errReset):
		_ = s.write(&live.Frame{Reset: true}) // it begins anew in any case
	default:
		l.log.Debug("a live stream was cut short", zap.String("user", who.GetName()), zap.Error(err))
	}
}

// parse reads the parameters.
func (l *Live) parse(q url.Values) (subs []subscription, since uint64, err error) {
	if text := q.Get("since"); text != "" {
		if since, err = strconv.ParseUint(text, 10, 64); err != nil {
			return nil, 0, fmt.Errorf("since: %q is no revision", clip(text))
		}
	}
	seen := map[string]bool{}
	for _, kind := range []string{"table", "list", "object"} {
		for _, text := range q[kind] {
			if seen[kind+"="+text] {
				continue
			}
			seen[kind+"="+text] = true
			var sub subscription
			if kind == "table" {
				sub, err = l.parseTable(text)
			} else {
				sub, err = l.parseObjects(kind, text)
			}
			if err != nil {
				return nil, 0, err
			}
			subs = append(subs, sub)
		}
	}
	switch {
	case len(subs) == 0:
		return nil, 0, errors.New("table, list, object: give at least one")
	case len(subs) > maxSubscriptions:
		return nil, 0, fmt.Errorf("table, list, object: %d, at most %d", len(subs), maxSubscriptions)
	}
	return subs, since, nil
}

func (s *stream) run(ctx context.Context) error {
	sight := s.live.cfg.Sight
	// What changes from here on is noticed.
	changed := sight.Changed()
	for _, sub := range s.subs {
		if _, err := sub.look(ctx, s.who); err != nil {
			return err
		}
	}
	// What was seen before may be more than may be seen now.
	if s.since != 0 && s.since < sight.Since(s.who) {
		return errReset
	}
	s.valid = time.Now()
	first := &live.Frame{Ready: true}
	for _, sub := range s.subs {
		if err := sub.begin(ctx, s.since); err != nil {
			return err
		}
		name, forbidden := sub.about()
		if forbidden != "" {
			if first.Forbidden == nil {
				first.Forbidden = map[string]string{}
			}
			first.Forbidden[name] = forbidden
		} else if columns := sub.columns(); columns != nil {
			if first.Columns == nil {
				first.Columns = map[string][]string{}
			}
			first.Columns[name] = columns
		}
	}
	// Only now: a table that was just opened continues from no revision before.
	first.Rev = s.live.cfg.Store.Revision()
	if err := s.send(first); err != nil {
		return err
	}
	tick := time.NewTicker(live.FrameEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
		now := time.Now()
		if now.Sub(s.valid) >= lookAgain {
			if err := s.live.cfg.Valid(s.r, s.who); err != nil {
				return s.write(&live.Frame{End: err.Error()})
			}
			s.valid = now
		}
		// Before anything is collected: what is waiting when a right ends is not for
		// who had it.
		if changed.Err() != nil {
			changed = sight.Changed()
			for _, sub := range s.subs {
				same, err := sub.look(ctx, s.who)
				if err != nil || !same {
					return errors.Join(errReset, err)
				}
			}
		}
		if err := s.send(&live.Frame{Rev: s.live.cfg.Store.Revision()}); err != nil {
			return err
		}
	}
}

// send collects what is new into f, whose Rev was read before, and writes it
// unless there is nothing to say.
func (s *stream) send(f *live.Frame) error {
	var n news
	for _, sub := range s.subs {
		if err := sub.collect(&n); err != nil {
			return err
		}
	}
	n.into(f)
	if f.Put == nil && f.Del == nil && !f.Ready {
		now := time.Now()
		if now.Sub(s.wrote) < live.BeatEvery-live.FrameEvery {
			return nil
		}
		f.Beat, f.Time = true, &now
	}
	return s.write(f)
}

func (s *stream) write(f *live.Frame) error {
	line, err := json.Marshal(f)
	if err != nil {
		return fmt.Errorf("encode frame: %w", err)
	}
	// A timer instead of the connection's deadline: with HTTP/2 each change of one
	// wakes the connection. Not every connection has deadlines, those of tests for
	// example.
	stalled := time.AfterFunc(writeTimeout, func() { _ = s.control.SetWriteDeadline(time.Unix(1, 0)) })
	defer stalled.Stop()
	if _, err := s.w.Write(append(line, '\n')); err != nil {
		return err
	}
	s.wrote = time.Now()
	return s.control.Flush()
}
