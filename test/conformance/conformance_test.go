// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

// Package conformance runs one script of kubectl commands against the hub and
// against a real kube-apiserver that holds the same kinds as custom resources,
// and compares what kubectl says. The differences that remain are listed in
// testdata/differences.txt, each with the reason why it is right. KUBECTL=FILE runs
// another kubectl than the one of kubetest.
package conformance

import (
	"bufio"
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/util/sets"
	"sigs.k8s.io/yaml"

	"github.com/drover-io/drover/shared/apis/schemas"
	"github.com/drover-io/drover/test/kube"
	"github.com/drover-io/drover/test/local"
)

var (
	update = flag.Bool("update", false, "rewrite testdata/differences.txt; new ones still need a reason")
	shared kube.Shared
	// binaries is the folder of the programs under test.
	binaries string
)

func TestMain(m *testing.M) { os.Exit(local.Main(&binaries, func() int { return shared.Main(m) })) }

// command is one line of the script.
type command struct {
	line  string
	args  []string
	dir   string // what DIR stands for
	fails bool
}

func TestSameAsKubernetes(t *testing.T) {
	t.Parallel()
	commands := readScript(t)
	kubernetes := shared.Cluster(t).Kubeconfig
	hub, err := local.Programs(binaries).StartHub(t.Context(), t.TempDir(), "127.0.0.1:0")
	t.Cleanup(func() {
		if hub.Process != nil {
			hub.Process.Kill()
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	installKinds(t, kubernetes)

	reviewed := readDifferences(t)
	var found []difference
	for _, c := range commands {
		want, wantCode := c.run(t, kubernetes)
		// Kubernetes publishes the schema of a new kind some time after it is Established.
		for deadline := time.Now().Add(time.Minute); slices.Contains(c.args, "explain") && (wantCode != 0) != c.fails && time.Now().Before(deadline); {
			time.Sleep(200 * time.Millisecond)
			want, wantCode = c.run(t, kubernetes)
		}
		got, gotCode := c.run(t, hub.Kubeconfig())
		if (wantCode != 0) != c.fails {
			t.Errorf("%s: exit code %d on Kubernetes\n%s", c.line, wantCode, want)
		}
		if want != got || wantCode != gotCode {
			found = append(found, difference{
				command: c.line, kubernetes: fmt.Sprintf("%sexit %d\n", want, wantCode), hub: fmt.Sprintf("%sexit %d\n", got, gotCode),
			})
		}
	}
	t.Logf("%d commands, %d with a difference", len(commands), len(found))
	if *update {
		writeDifferences(t, found, reviewed)
		return
	}
	compare(t, found, reviewed)
}

// compare fails for what nobody has reviewed, and for what is no difference any more.
func compare(t *testing.T, found, reviewed []difference) {
	t.Helper()
	known := map[string]difference{}
	for _, d := range reviewed {
		known[d.command] = d
	}
	for _, d := range found {
		r, ok := known[d.command]
		delete(known, d.command)
		switch {
		case !ok || r.reason == unreviewed:
			t.Errorf("%s differs (-kubernetes +hub):\n%s", d.command, cmp.Diff(strings.Split(d.kubernetes, "\n"), strings.Split(d.hub, "\n")))
		case r.kubernetes != d.kubernetes || r.hub != d.hub:
			t.Errorf("%s differs in another way than was reviewed (-reviewed +now):\n%s%s", d.command,
				cmp.Diff(r.kubernetes, d.kubernetes), cmp.Diff(r.hub, d.hub))
		}
	}
	for line := range known {
		t.Errorf("%s: the difference in testdata/differences.txt is gone; remove it", line)
	}
}

func readScript(t *testing.T) (commands []command) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", "script.txt"))
	if err != nil {
		t.Fatal(err)
	}
	dir, err := filepath.Abs("testdata")
	if err != nil {
		t.Fatal(err)
	}
	seen := sets.New[string]()
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		rest, fails := strings.CutPrefix(line, "! ")
		words := split(rest)
		if len(words) < 2 || words[0] != "kubectl" {
			t.Fatalf("script: %q is no kubectl command", line)
		}
		for i := range words {
			words[i] = strings.ReplaceAll(words[i], "DIR", dir)
		}
		for n := 2; seen.Has(line); n++ { // the same command again is another one
			line = fmt.Sprintf("%s # %d", strings.SplitN(line, " # ", 2)[0], n)
		}
		seen.Insert(line)
		commands = append(commands, command{line: line, args: words[1:], dir: dir, fails: fails})
	}
	return commands
}

// split cuts at spaces outside of quotes.
func split(line string) (words []string) {
	var word strings.Builder
	var quote rune
	started := false
	for _, r := range line {
		switch {
		case quote != 0 && r == quote:
			quote = 0
		case quote != 0:
			word.WriteRune(r)
		case r == '\'' || r == '"':
			quote, started = r, true
		case r == ' ':
			if started {
				words = append(words, word.String())
			}
			word.Reset()
			started = false
		default:
			word.WriteRune(r)
			started = true
		}
	}
	if started {
		words = append(words, word.String())
	}
	return words
}

func (c command) run(t *testing.T, kubeconfig string) (output string, code int) {
	t.Helper()
	cmd := kube.Kubectl(kubeconfig, c.args...)
	if other := os.Getenv("KUBECTL"); other != "" { // of another version
		env := cmd.Env
		cmd = exec.Command(other, append([]string{"--kubeconfig", kubeconfig}, c.args...)...)
		cmd.Env = env
	}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("%s: %v", c.line, err)
	}
	return normal(strings.ReplaceAll(out.String(), c.dir, "DIR")), cmd.ProcessState.ExitCode()
}

// normal replaces what cannot be the same on two servers.
func normal(text string) string {
	for _, r := range replacements {
		text = r.what.ReplaceAllString(text, r.with)
	}
	var b strings.Builder
	s := bufio.NewScanner(strings.NewReader(text))
	s.Buffer(nil, 1<<20)
	for s.Scan() {
		b.WriteString(strings.TrimRight(spaces.ReplaceAllString(s.Text(), "$1 "), " "))
		b.WriteByte('\n')
	}
	return b.String()
}

var (
	spaces       = regexp.MustCompile(`(\S) {2,}`) // columns are as wide as their widest cell
	replacements = []struct {
		what *regexp.Regexp
		with string
	}{
		{regexp.MustCompile(`[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}`), "UID"},
		{regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z`), "TIME"},
		{regexp.MustCompile(`(resourceVersion"?: )"?\d+"?`), "${1}RV"},
		{regexp.MustCompile(`(Resource Version: +)\d+`), "${1}RV"},
		{regexp.MustCompile(`\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+ \+0000`), "TIME"},
		{regexp.MustCompile(`many-[a-z0-9]{5}`), "many-RANDOM"},
		{regexp.MustCompile(`(?m)\b\d+(s|m|ms)(\d+s)?$`), "AGE"},
		{regexp.MustCompile(`(?m) (\d+(s|m)|<invalid>|<unknown>)(\s|$)`), " AGE$3"},
		{regexp.MustCompile(`https://(127\.0\.0\.1|localhost):\d+`), "https://SERVER"},
		{regexp.MustCompile(`/\S*/(LIVE|MERGED)-\d+/`), "$1/"},
		{regexp.MustCompile(`(LIVE|MERGED)-\d+`), "$1"},
	}
)

// installKinds gives Kubernetes the hub's kinds as custom resources.
func installKinds(t *testing.T, kubeconfig string) {
	t.Helper()
	docs, err := schemas.Documents()
	if err != nil {
		t.Fatal(err)
	}
	for _, doc := range docs {
		var crd struct {
			Metadata struct{ Name string }
		}
		if err := yaml.Unmarshal(doc, &crd); err != nil {
			t.Fatal(err)
		}
		if !custom.Has(crd.Metadata.Name) {
			continue
		}
		apply := kube.Kubectl(kubeconfig, "apply", "--server-side", "-f", "-")
		apply.Stdin = bytes.NewReader(doc)
		if out, err := apply.CombinedOutput(); err != nil {
			t.Fatalf("%s as a custom resource: %v\n%s", crd.Metadata.Name, err, out)
		}
		wait := kube.Kubectl(kubeconfig, "wait", "--for=condition=Established", "crd/"+crd.Metadata.Name, "--timeout=30s")
		if out, err := wait.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
}

// custom are the kinds of the hub that the script uses and Kubernetes lacks.
var custom = sets.New("managedclusters.cluster.open-cluster-management.io")
