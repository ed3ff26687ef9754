// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// lists measures lists of all works, read to the end and thrown away.
func (b *bench) lists(ctx context.Context, s server, objects int) error {
	c, err := newClient(s)
	if err != nil {
		return err
	}
	defer c.close()
	fetch := func(query string) (time.Duration, int64, error) {
		began := time.Now()
		resp, err := c.get(ctx, works.path()+query)
		if err != nil {
			return 0, 0, err
		}
		defer resp.Body.Close()
		n, err := io.Copy(io.Discard, resp.Body)
		return time.Since(began), n, err
	}
	const times = 10
	for _, l := range []struct{ name, query string }{
		{fmt.Sprintf("list of %d", objects), ""},
		{fmt.Sprintf("list of %d, resourceVersion=0", objects), "?resourceVersion=0"},
		{"list, limit=500", "?limit=500"},
		{fmt.Sprintf("list of a tenth of %d by label", objects), "?labelSelector=group%3Dg1"},
	} {
		var took []time.Duration
		var size int64
		for range times {
			d, n, err := fetch(l.query)
			if err != nil {
				return err
			}
			took, size = append(took, d), n
		}
		slices.Sort(took)
		b.note(s, l.name+", p50", "ms", less, milliseconds(took[times/2]))
		if l.query == "" {
			b.note(s, l.name+", size of the JSON", "MB", less, float64(size)/1e6)
		}
	}
	name := "fill-000000"
	var took []time.Duration
	for range 200 {
		began := time.Now()
		if _, err := works.of(c.dynamic).Get(ctx, name, metav1.GetOptions{}); err != nil {
			return err
		}
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	b.note(s, "get of one, p50", "ms", less, milliseconds(took[len(took)/2]))
	return nil
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// fanOut measures from the start of a status patch to its event at each of the
// watchers, every one with a connection of its own.
func (b *bench) fanOut(ctx context.Context, s server, round int) error {
	const changes, every = 100, 50 * time.Millisecond
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	writer, err := newClient(s)
	if err != nil {
		return err
	}
	defer writer.close()
	list, err := works.of(writer.dynamic).List(ctx, metav1.ListOptions{Limit: 1})
	if err != nil {
		return err
	}
	marks := &marks{sent: map[string]time.Time{}}
	var group sync.WaitGroup
	defer group.Wait()
	defer cancel()
	for range b.watchers {
		c, err := newClient(s)
		if err != nil {
			return err
		}
		defer c.close()
		resp, err := c.get(ctx, works.path()+"?watch=true&resourceVersion="+list.GetResourceVersion())
		if err != nil {
			return err
		}
		group.Go(func() {
			defer resp.Body.Close()
			marks.read(resp.Body)
		})
	}
	began := time.Now()
	t := time.NewTicker(every)
	defer t.Stop()
	for i := range changes {
		n := 1_000_000*(round+1) + i
		marks.send(fmt.Sprint(n))
		if _, err := works.of(writer.dynamic).Patch(ctx, "fill-000001", types.MergePatchType, works.status(n), metav1.PatchOptions{FieldManager: "status"}, "status"); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-t.C:
		}
	}
	want := changes * b.watchers
	if err := eventually(ctx, "all watchers have all events", func() bool { return marks.count() >= want || time.Since(began) > time.Minute }); err != nil {
		return err
	}
	marks.mu.Lock()
	defer marks.mu.Unlock()
	if len(marks.took) != want {
		return fmt.Errorf("%d events at %d watchers, want %d", len(marks.took), b.watchers, want)
	}
	slices.Sort(marks.took)
	title := fmt.Sprintf("status patch to event, %d watchers", b.watchers)
	b.note(s, title+", p50", "ms", less, milliseconds(marks.took[want/2]))
	b.note(s, title+", p99", "ms", less, milliseconds(marks.took[want*99/100]))
	return nil
}

// marks are when values were sent, and how long each took to arrive.
type marks struct {
	mu   sync.Mutex
	sent map[string]time.Time
	took []time.Duration
}

func (m *marks) send(value string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sent[value] = time.Now()
}

func (m *marks) count() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.took)
}

// read notes the values in a watch's events until it ends.
func (m *marks) read(body io.Reader) {
	r := bufio.NewReaderSize(body, 64<<10)
	for {
		line, err := r.ReadSlice('\n')
		if errors.Is(err, bufio.ErrBufferFull) || err != nil {
			return
		}
		now := time.Now()
		_, rest, found := bytes.Cut(line, []byte(" is number "))
		if !found {
			continue
		}
		value, _, _ := bytes.Cut(rest, []byte(`"`))
		m.mu.Lock()
		if sent, ok := m.sent[string(value)]; ok {
			m.took = append(m.took, now.Sub(sent))
		}
		m.mu.Unlock()
	}
}

// restart measures from the start of the process until a consistent list shows
// everything, after an orderly end and after kill -9 in the middle of writes.
func (b *bench) restart(ctx context.Context, s server, objects int) error {
	if err := s.stop(); err != nil {
		return err
	}
	took, err := b.comeBack(ctx, s, objects)
	if err != nil {
		return err
	}
	b.note(s, fmt.Sprintf("restart, %d objects", objects), "s", less, took.Seconds())

	c, err := newClient(s)
	if err != nil {
		return err
	}
	defer c.close()
	writing, cancel := context.WithCancel(ctx)
	defer cancel()
	done := make(chan int, 1)
	begun := make(chan struct{})
	go func() {
		n := 0
		for writing.Err() == nil {
			if _, err := works.of(c.dynamic).Patch(writing, "fill-000002", types.MergePatchType, works.status(n), metav1.PatchOptions{FieldManager: "status"}, "status"); err != nil {
				break
			}
			if n++; n == 5 {
				close(begun)
			}
		}
		done <- n
	}()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(time.Minute):
		return errors.New("no five patches in a minute")
	case <-begun:
	}
	s.kill()
	cancel()
	acked := <-done
	if took, err = b.comeBack(ctx, s, objects); err != nil {
		return err
	}
	b.note(s, fmt.Sprintf("restart after kill -9, %d objects", objects), "s", less, took.Seconds())
	return acknowledged(ctx, s, acked)
}

// acknowledged checks that the last acknowledged patch, or the one after it whose
// answer was lost, is there.
func acknowledged(ctx context.Context, s server, acked int) error {
	c, err := newClient(s)
	if err != nil {
		return err
	}
	defer c.close()
	obj, err := works.of(c.dynamic).Get(ctx, "fill-000002", metav1.GetOptions{})
	if err != nil {
		return err
	}
	text, err := obj.MarshalJSON()
	if err != nil {
		return err
	}
	for _, n := range []int{acked - 1, acked} {
		if bytes.Contains(text, fmt.Appendf(nil, " is number %d\"", n)) {
			return nil
		}
	}
	return fmt.Errorf("of %d acknowledged patches the last is lost", acked)
}

// comeBack starts the server and asks until it shows all objects.
func (b *bench) comeBack(ctx context.Context, s server, objects int) (time.Duration, error) {
	began := time.Now()
	started := make(chan error, 1)
	go func() { started <- s.start(ctx) }()
	var failed error
	err := eventually(ctx, "the server shows all objects", func() bool {
		c, err := newClient(s)
		if err != nil {
			return false
		}
		defer c.close()
		asked, cancel := context.WithTimeout(ctx, 30*time.Second)
		defer cancel()
		n, err := countOf(asked, c)
		if err == nil && n != objects {
			failed = fmt.Errorf("%d objects after a restart, want %d", n, objects)
		}
		return err == nil
	})
	took := time.Since(began)
	return took, errors.Join(err, failed, <-started)
}

// memory is the resident memory when nobody asks for anything.
func (b *bench) memory(ctx context.Context, s server, name string) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(b.settle):
	}
	n, err := rss(s.pid())
	if err == nil {
		b.note(s, name, "MiB", less, float64(n)/(1<<20))
	}
	return err
}
