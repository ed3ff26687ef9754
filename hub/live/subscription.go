// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package live

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"k8s.io/apiserver/pkg/authentication/user"

	"github.com/drover-io/drover/hub/store"
	"github.com/drover-io/drover/shared/apis/live"
)

// news are what changed of the subscriptions of one client.
type news struct {
	put map[string]map[string]json.RawMessage // by subscription and key
	del map[string]map[string]bool
}

func (n *news) set(sub, key string, data json.RawMessage) {
	if n.put == nil {
		n.put = map[string]map[string]json.RawMessage{}
	}
	if n.put[sub] == nil {
		n.put[sub] = map[string]json.RawMessage{}
	}
	n.put[sub][key] = data
	delete(n.del[sub], key)
}

func (n *news) unset(sub, key string) {
	if n.del == nil {
		n.del = map[string]map[string]bool{}
	}
	if n.del[sub] == nil {
		n.del[sub] = map[string]bool{}
	}
	n.del[sub][key] = true
	delete(n.put[sub], key)
}

// into writes the news into a frame, in the order of the keys.
func (n *news) into(f *live.Frame) {
	for sub, rows := range n.put {
		if len(rows) == 0 {
			continue
		}
		keys := make([]string, 0, len(rows))
		for k := range rows {
			keys = append(keys, k)
		}
		slices.Sort(keys)
		list := make([]json.RawMessage, len(keys))
		for i, k := range keys {
			list[i] = rows[k]
		}
		if f.Put == nil {
			f.Put = map[string][]json.RawMessage{}
		}
		f.Put[sub] = list
	}
	for sub, keys := range n.del {
		if len(keys) == 0 {
			continue
		}
		list := make([]string, 0, len(keys))
		for k := range keys {
			list = append(list, k)
		}
		slices.Sort(list)
		if f.Del == nil {
			f.Del = map[string][]string{}
		}
		f.Del[sub] = list
	}
}

// subscription is one thing that a stream is about.
type subscription interface {
	// look finds out what may be seen; same reports that this is what it was.
	look(ctx context.Context, who user.Info) (same bool, err error)
	// begin is called once after look. Without a revision to go on from, all there is
	// is news.
	begin(ctx context.Context, since uint64) error
	// collect adds what is new; errReset when that cannot be told.
	collect(n *news) error
	// about is the subscription's name, and why nothing comes of it.
	about() (name, forbidden string)
	columns() []string
	end()
}

// tableSub is a subscription to a table, or to the rows of one namespace of it.
type tableSub struct {
	live      *Live
	def       *definition
	name      string
	namespace string

	sight   sight
	table   *table
	release func()
	seq     uint64 // up to which the log was read
	all     bool   // send all rows
}

// sight is what somebody may see of a table.
type sight struct {
	view
	guards []view // in the order of the definition's
}

func (s sight) same(o sight) bool {
	return s.view.same(o.view) && slices.EqualFunc(s.guards, o.guards, view.same)
}

// whole reports whether rows are sent as they are.
func (s sight) whole() bool {
	return !slices.ContainsFunc(s.guards, func(v view) bool { return !v.all })
}

func (l *Live) sight(ctx context.Context, who user.Info, verb string, d *definition, namespace string) (out sight, err error) {
	if out.view, err = l.look(ctx, who, verb, scope{groupResource(d.resource), namespace, d.clusterScoped}); err != nil {
		return out, err
	}
	for _, g := range d.guards {
		v, err := l.look(ctx, who, verb, scope{resource: groupResource(g.resource)})
		if err != nil {
			return out, err
		}
		out.guards = append(out.guards, v)
	}
	return out, nil
}

// render is a row as it may be seen.
func (s sight) render(d *definition, r *row) json.RawMessage {
	if s.whole() {
		return r.full
	}
	hidden := map[string]bool{}
	for i, g := range d.guards {
		if !g.shows(s.guards[i], r) {
			for _, c := range g.columns {
				hidden[c] = true
			}
		}
	}
	if len(hidden) == 0 {
		return r.full
	}
	columns := d.columns()
	return r.without(nil, func(i int) bool { return hidden[columns[i]] })
}

func (s *tableSub) look(ctx context.Context, who user.Info) (bool, error) {
	before := s.sight
	var err error
	s.sight, err = s.live.sight(ctx, who, "watch", s.def, s.namespace)
	return s.sight.same(before), err
}

func (s *tableSub) begin(ctx context.Context, since uint64) error {
	if s.sight.forbidden != "" {
		return nil
	}
	t, err := s.live.table(ctx, s.def)
	if err != nil {
		return err
	}
	s.table, s.release = t, t.hold()
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.sync(); err != nil {
		return err
	}
	if since == 0 {
		s.all = true
		return nil
	}
	if since < t.floor {
		return errReset
	}
	// Those of the revision itself again: samples change without a new one.
	s.seq = t.seq
	for i := range t.changes {
		if c := &t.changes[i]; c.revision >= since {
			s.seq = c.seq - 1
			break
		}
	}
	return nil
}

func (s *tableSub) shows(id *identity) bool {
	return (s.namespace == "" || s.namespace == id.namespace) && s.sight.shows(id.namespace, id.name, id.labels)
}

func (s *tableSub) collect(n *news) error {
	if s.table == nil {
		return nil
	}
	t := s.table
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.sync(); err != nil {
		return err
	}
	if s.all {
		for key, r := range t.rows {
			if s.shows(&r.identity) {
				n.set(s.name, key, s.sight.render(s.def, r))
			}
		}
		s.all, s.seq = false, t.seq
		return nil
	}
	if s.seq == t.seq {
		return nil
	}
	first := t.seq - uint64(len(t.changes)) + 1
	if s.seq+1 < first {
		return errReset
	}
	for i := s.seq + 1 - first; i < uint64(len(t.changes)); i++ {
		c := &t.changes[i]
		r := t.rows[c.key]
		switch {
		case r != nil && s.shows(&r.identity):
			n.set(s.name, c.key, s.sight.render(s.def, r))
		case c.before != nil && s.shows(c.before):
			n.unset(s.name, c.key)
		}
	}
	s.seq = t.seq
	return nil
}

func (s *tableSub) about() (string, string) { return s.name, s.sight.forbidden }
func (s *tableSub) columns() []string       { return s.def.columns() }

func (s *tableSub) end() {
	if s.release != nil {
		s.release()
	}
}

// objectSub is a subscription to objects of the API: all of a resource, those of a
// namespace, or one.
type objectSub struct {
	live *Live
	name string
	sel  store.WatchSelection

	view    view
	watcher *store.Watcher
}

func (s *objectSub) look(ctx context.Context, who user.Info) (bool, error) {
	before := s.view
	var err error
	s.view, err = s.live.look(ctx, who, "watch", scope{groupResource(s.sel.Resource), s.sel.Namespace, s.sel.Name != "" && s.sel.Namespace == ""})
	return s.view.same(before), err
}

func (s *objectSub) begin(ctx context.Context, since uint64) error {
	if s.view.forbidden != "" {
		return nil
	}
	s.sel.Match, s.sel.From, s.sel.MinRevision = s.view.match(), since, store.Any
	w, err := s.live.cfg.Store.Watch(ctx, s.sel)
	if errors.Is(err, store.ErrExpired) || errors.Is(err, store.ErrFuture) {
		return errReset
	}
	if err != nil {
		return err
	}
	s.watcher = w
	return nil
}

func (s *objectSub) collect(n *news) error {
	if s.watcher == nil {
		return nil
	}
	for {
		ev, ok, err := s.watcher.Ready()
		switch {
		case errors.Is(err, store.ErrSlow), errors.Is(err, store.ErrExpired):
			return errReset
		case err != nil:
			return err
		case !ok:
			return nil
		}
		switch ev.Type {
		case store.Added, store.Modified:
			data, err := object(ev.Entry)
			if err != nil {
				return err
			}
			n.set(s.name, keyOf(ev.Entry.Key), data)
		case store.Deleted:
			n.unset(s.name, keyOf(ev.Entry.Key))
		}
	}
}

func (s *objectSub) about() (string, string) { return s.name, s.view.forbidden }
func (s *objectSub) columns() []string       { return nil }

func (s *objectSub) end() {
	if s.watcher != nil {
		s.watcher.Stop()
	}
}

// object is a stored object as the API shows it, without the book of who owns
// which field.
func object(e store.Entry) (json.RawMessage, error) {
	var obj map[string]json.RawMessage
	if err := json.Unmarshal(e.Data, &obj); err != nil {
		return nil, fmt.Errorf("decode %s: %w", e.Key, err)
	}
	meta := map[string]json.RawMessage{}
	if len(obj["metadata"]) > 0 {
		if err := json.Unmarshal(obj["metadata"], &meta); err != nil {
			return nil, fmt.Errorf("decode %s: %w", e.Key, err)
		}
	}
	delete(meta, "managedFields")
	meta["resourceVersion"] = json.RawMessage(`"` + strconv.FormatUint(e.Revision, 10) + `"`)
	var err error
	if obj["metadata"], err = json.Marshal(meta); err != nil {
		return nil, err
	}
	return json.Marshal(obj)
}

// parseTable reads NAME or NAME/NAMESPACE.
func (l *Live) parseTable(text string) (*tableSub, error) {
	name, namespace, _ := strings.Cut(text, "/")
	d := definitions()[name]
	switch {
	case d == nil:
		return nil, fmt.Errorf("table: there is none called %q", clip(name))
	case namespace != "" && d.clusterScoped:
		return nil, fmt.Errorf("table: rows of %q are in no namespace", name)
	}
	return &tableSub{live: l, def: d, name: text, namespace: namespace}, nil
}

// parseObjects reads RESOURCE or RESOURCE/NAMESPACE of a list, and RESOURCE/NAME or
// RESOURCE/NAMESPACE/NAME of an object.
func (l *Live) parseObjects(kind, text string) (*objectSub, error) {
	parts := strings.Split(text, "/")
	s := &objectSub{live: l, name: kind + "=" + text, sel: store.WatchSelection{Resource: parts[0]}}
	switch {
	case parts[0] == "":
	case kind == "list" && len(parts) == 1:
		return s, nil
	case kind == "list" && len(parts) == 2:
		s.sel.Namespace = parts[1]
		return s, nil
	case kind == "object" && len(parts) == 2 && parts[1] != "":
		s.sel.Name = parts[1]
		return s, nil
	case kind == "object" && len(parts) == 3 && parts[2] != "":
		s.sel.Namespace, s.sel.Name = parts[1], parts[2]
		return s, nil
	}
	if kind == "list" {
		return nil, fmt.Errorf("list: %q: want RESOURCE or RESOURCE/NAMESPACE", clip(text))
	}
	return nil, fmt.Errorf("object: %q: want RESOURCE/NAME or RESOURCE/NAMESPACE/NAME", clip(text))
}
