// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// writeUntilKilled is the child process of TestKill: it writes, and prints the
// name and revision of each object that was acknowledged.
func writeUntilKilled(dir string) error {
	srv, err := startServer(filepath.Join(dir, "nats"), 0)
	if err != nil {
		return err
	}
	nc, err := nats.Connect("", nats.InProcessServer(srv))
	if err != nil {
		return err
	}
	js, err := jetstream.New(nc)
	if err != nil {
		return err
	}
	ctx := context.Background()
	s, err := Open(ctx, js, Options{Dir: dir})
	if err != nil {
		return err
	}
	var out sync.Mutex
	var group sync.WaitGroup
	group.Go(func() { _ = s.Run(ctx) })
	say := func(name string, rev uint64) {
		out.Lock()
		defer out.Unlock()
		fmt.Printf("%s %d\n", name, rev)
	}
	for w := range 24 {
		group.Go(func() {
			for i := 0; ; i++ {
				if w == 0 {
					writes := make([]Write, 20)
					for n := range writes {
						name := fmt.Sprintf("batch-%d-%d-%d", os.Getpid(), i, n)
						writes[n] = Write{Key: key("ns", name), Data: object(name, i)}
					}
					revs, err := s.Batch(ctx, writes)
					if err != nil {
						fmt.Fprintln(os.Stderr, err)
						return
					}
					for n := range writes {
						say(writes[n].Key.Name, revs[n])
					}
					continue
				}
				name := fmt.Sprintf("single-%d-%d-%d", os.Getpid(), w, i)
				rev, err := s.Create(ctx, key("ns", name), object(name, i))
				if err != nil {
					fmt.Fprintln(os.Stderr, err)
					return
				}
				say(name, rev)
			}
		})
	}
	group.Wait()
	return nil
}

// TestKill kills a process while it writes, three times over the same data, and
// looks for every write that was acknowledged.
func TestKill(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	acked := map[string]uint64{}
	for range 3 {
		child := exec.Command(os.Args[0], "-test.run=^$")
		child.Env = append(os.Environ(), "STORE_TEST_WRITER="+dir)
		child.Stderr = os.Stderr
		out, err := child.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for n := 0; lines.Scan(); n++ {
			var name string
			var rev uint64
			// A last line cut short is no acknowledgement.
			if k, err := fmt.Sscanf(lines.Text()+" .", "%s %d .", &name, &rev); k == 2 && err == nil {
				acked[name] = rev
			}
			if n == 400 {
				if err := child.Process.Kill(); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := child.Wait(); err == nil || !strings.Contains(err.Error(), "killed") {
			t.Fatalf("child: %v", err)
		}
	}
	b := &broker{t: t, dir: filepath.Join(dir, "nats")}
	b.start()
	t.Cleanup(b.stop)
	s, _ := b.open(Options{Dir: dir})
	lost := 0
	for name, rev := range acked {
		if e, ok := s.Cached(key("ns", name)); !ok || e.Revision != rev {
			lost++
		}
	}
	t.Logf("%d acknowledged writes, %d objects", len(acked), s.cache.objects)
	if lost > 0 {
		t.Errorf("%d of %d acknowledged writes are lost", lost, len(acked))
	}
	// A batch is there wholly or not at all.
	batches := map[string]int{}
	for _, e := range mustList(t, s, Selection{Resource: "things.example.io"}).Entries {
		if name := e.Key.Name; strings.HasPrefix(name, "batch-") {
			batches[name[:strings.LastIndexByte(name, '-')]]++
		}
	}
	for name, n := range batches {
		if n != 20 {
			t.Errorf("of %s %d of 20 writes are there", name, n)
		}
	}
}
