// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package apply_test

import (
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/drover-io/drover/shared/wire"
)

// footprintEnv is the kubeconfig of the cluster in the process that is measured.
const footprintEnv = "DROVER_TEST_FOOTPRINT"

const watchedNamespace = "footprint"

// The agent's memory does not depend on what else a cluster has: neither on the
// number of kinds, nor on objects beside its own, nor on their changes.
// DROVER_TEST_FULL=1 does it with 300 CRDs and 10,000 objects.
func TestFootprint(t *testing.T) {
	kinds, others := 20, 1000
	if os.Getenv("DROVER_TEST_FULL") == "1" {
		kinds, others = 300, 10_000
	}
	r := newRig(t, watchedNamespace)
	kubeconfig := shared.Cluster(t).Kubeconfig
	empty := measure(t, kubeconfig, "empty")
	before := measure(t, kubeconfig, "works")

	var group errgroup.Group
	group.SetLimit(8)
	for i := range kinds {
		group.Go(func() error {
			r.create(crds, "", strings.ReplaceAll(widgetCRD, "GROUP", fmt.Sprintf("noise%d.example.com", i)))
			return nil
		})
	}
	filler := strings.Repeat("x", 1000)
	for i := range others {
		group.Go(func() error {
			r.create(configMaps, watchedNamespace, configMap(watchedNamespace, fmt.Sprint("noise-", i), filler))
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	after := measure(t, kubeconfig, "works")
	t.Logf("RSS in MiB: %.1f with no work, %.1f with 50 objects, %.1f beside %d kinds and %d objects of others",
		mib(empty), mib(before), mib(after), kinds, others)
	// A test with the race detector takes more from the start.
	if after > before+8<<20 || after > max(64<<20, empty+40<<20) {
		t.Errorf("RSS grew from %.1f to %.1f MiB", mib(before), mib(after))
	}
}

func mib(bytes int) float64 { return float64(bytes) / (1 << 20) }

// measure runs an engine in a process of its own and returns what that takes.
func measure(t *testing.T, kubeconfig, what string) int {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestFootprintChild$", "-test.v")
	cmd.Env = append(os.Environ(), footprintEnv+"="+kubeconfig, footprintEnv+"_WHAT="+what, "GOGC=50")
	out, err := cmd.CombinedOutput()
	found := regexp.MustCompile(`rss=(\d+)`).FindSubmatch(out)
	if err != nil || found == nil {
		t.Fatalf("child: %v\n%s", err, out)
	}
	n, err := strconv.Atoi(string(found[1]))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestFootprintChild is the process that TestFootprint measures.
func TestFootprintChild(t *testing.T) {
	kubeconfig := os.Getenv(footprintEnv)
	if kubeconfig == "" {
		t.Skip("is run by TestFootprint")
	}
	cfg, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{
		t: t, ns: watchedNamespace, cfg: cfg,
		records: make(map[string][]byte), contents: make(map[string][]byte), reports: make(map[string][]wire.Report),
	}
	r.start()
	if os.Getenv(footprintEnv+"_WHAT") == "works" {
		var items []wire.Item
		for i := range 10 {
			extra := fmt.Sprintf(`{"manifestConfigs":[{"resourceIdentifier":{"group":"*","resource":"*","namespace":"*","name":"*"},
				"feedbackRules":[{"type":"JSONPaths","jsonPaths":[{"name":"level","path":".data.level"}]}],
				"conditionRules":[{"condition":"Good","type":"CEL","celExpressions":["has(object.metadata.name) && %d < 100"]}]}]}`, i)
			var manifests []string
			for j := range 4 {
				manifests = append(manifests, configMap(watchedNamespace, fmt.Sprintf("own-%d-%d", i, j), "info"))
			}
			manifests = append(manifests, strings.Replace(deployment(watchedNamespace, fmt.Sprint("web-", i), "{}"), `"replicas":2`, `"replicas":1`, 1))
			items = append(items, r.item(fmt.Sprint("work-", i), 1, extra, manifests...))
		}
		r.engine.Sync(items)
		for _, item := range items {
			r.awaitCurrent(item)
		}
	}
	time.Sleep(2 * time.Second) // watches are open, garbage is due
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Skip("needs /proc")
	}
	found := regexp.MustCompile(`VmRSS:\s+(\d+) kB`).FindSubmatch(status)
	kb, err := strconv.Atoi(string(found[1]))
	if err != nil {
		t.Fatal(err)
	}
	fmt.Printf("rss=%d\n", kb<<10)
}
