// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// TestPowerCut writes onto a file system in an image, stops the process, and
// copies the image: what was not written through to it by then is lost, as in a
// power cut. It mounts the copy and looks for every write that was acknowledged.
// It needs root and loop devices.
func TestPowerCut(t *testing.T) {
	if testing.Short() {
		t.Skip("power cuts are not for -short")
	}
	if os.Geteuid() != 0 {
		t.Skip("mounting an image needs root")
	}
	for _, tool := range []string{"mkfs.ext4", "mount", "umount"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("no %s: %v", tool, err)
		}
	}
	dir, err := os.MkdirTemp("/dev/shm", "powercut-")
	if err != nil {
		t.Skipf("no memory file system: %v", err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	for cut := range 3 {
		image := filepath.Join(dir, fmt.Sprintf("image-%d", cut))
		if err := os.WriteFile(image, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(image, 256<<20); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command("mkfs.ext4", "-q", image).CombinedOutput(); err != nil {
			t.Skipf("mkfs.ext4: %v: %s", err, out)
		}
		root, unmount := mountImage(t, image)
		acked := cutPower(t, root, image, 300*(cut+1))
		unmount()
		lookFor(t, image+".cut", acked)
	}
}

func mountImage(t *testing.T, image string) (root string, unmount func()) {
	t.Helper()
	root = t.TempDir()
	if out, err := exec.Command("mount", "-o", "loop", image, root).CombinedOutput(); err != nil {
		t.Skipf("no loop mounts here: %v: %s", err, out)
	}
	var once sync.Once
	unmount = func() {
		once.Do(func() {
			if out, err := exec.Command("umount", root).CombinedOutput(); err != nil {
				t.Errorf("umount: %v: %s", err, out)
			}
		})
	}
	t.Cleanup(unmount)
	return root, unmount
}

// cutPower runs a writer until it has printed some writes, freezes it, copies the
// image, and returns what was acknowledged before the copy began.
func cutPower(t *testing.T, root, image string, writes int) map[string]uint64 {
	t.Helper()
	child := exec.Command(os.Args[0], "-test.run=^$")
	child.Env = append(os.Environ(), "STORE_TEST_WRITER="+filepath.Join(root, "data"))
	child.Stderr = os.Stderr
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(root, "data"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = child.Process.Kill()
		_ = child.Wait()
	}()
	acked := map[string]uint64{}
	lines := bufio.NewScanner(out)
	for len(acked) < writes && lines.Scan() {
		var name string
		var rev uint64
		if n, err := fmt.Sscanf(lines.Text(), "%s %d", &name, &rev); n == 2 && err == nil {
			acked[name] = rev
		}
	}
	if err := child.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the writer is stopped", func() bool {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", child.Process.Pid))
		_, state, _ := strings.Cut(string(stat), ") ")
		return err == nil && strings.HasPrefix(state, "T")
	})
	began := time.Now()
	b, err := os.ReadFile(image)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(image+".cut", b, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Logf("power cut after %d acknowledged writes (image copied in %v)", len(acked), time.Since(began))
	return acked
}

func lookFor(t *testing.T, image string, acked map[string]uint64) {
	t.Helper()
	root, unmount := mountImage(t, image)
	b := &broker{t: t, dir: filepath.Join(root, "data", "nats")}
	b.start()
	s, stop := b.open(Options{Dir: filepath.Join(root, "data")})
	lost := 0
	for name, rev := range acked {
		if e, ok := s.Cached(key("ns", name)); !ok || e.Revision != rev {
			lost++
		}
	}
	if lost > 0 {
		t.Errorf("%d of %d acknowledged writes are lost", lost, len(acked))
	}
	stop()
	b.stop()
	unmount()
}
