// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package live

import (
	"github.com/drover-io/drover/hub/store"
	"github.com/drover-io/drover/shared/words"
)

// counting is a resource whose objects are counted by rows of another.
type counting struct {
	resource string
	item     func(store.Entry) (item, error)
}

// item is what a row knows of an object that it counts.
type item struct {
	group string // key of the row
	tone  words.Tone
	text  string
}

// sums are the items of one row.
type sums struct {
	total, problems, ok int
	text                string // of the one that has some
}

// tally counts the objects of one resource by the rows that they belong to.
type tally struct {
	items map[store.Key]item
	sums  map[string]*sums
}

func newTally() tally { return tally{map[store.Key]item{}, map[string]*sums{}} }

// take counts a change, and returns the keys of the rows that count otherwise now.
func (t *tally) take(ev store.Event, read func(store.Entry) (item, error)) []string {
	old, had := t.items[ev.Entry.Key]
	var now item
	has := false
	if ev.Type != store.Deleted {
		it, err := read(ev.Entry)
		now, has = it, err == nil
	}
	if had == has && old == now {
		return nil
	}
	var out []string
	if had {
		delete(t.items, ev.Entry.Key)
		t.add(old, -1)
		out = append(out, old.group)
	}
	if has {
		t.items[ev.Entry.Key] = now
		t.add(now, 1)
		if !had || now.group != old.group {
			out = append(out, now.group)
		}
	}
	return out
}

func (t *tally) add(i item, n int) {
	s := t.sums[i.group]
	if s == nil {
		s = &sums{}
		t.sums[i.group] = s
	}
	s.total += n
	switch i.tone {
	case words.ToneBad, words.ToneWarn:
		s.problems += n
	case words.ToneOK:
		s.ok += n
	}
	switch {
	case i.text != "" && n > 0:
		s.text = i.text
	case i.text != "" && s.text == i.text:
		s.text = ""
	}
	if s.total == 0 {
		delete(t.sums, i.group)
	}
}

// of is what a row counts.
func (t *tally) of(group string) sums {
	if s := t.sums[group]; s != nil {
		return *s
	}
	return sums{}
}
