// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package daemon_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"

	"github.com/drover-io/drover/shared/daemon"
)

// values are the options of the tests.
type values struct {
	Dir, Level string
	Wait       time.Duration
	List       []string
	Max        int
	Yes        bool
}

func flags(v *values) *pflag.FlagSet {
	f := pflag.NewFlagSet("x", pflag.ContinueOnError)
	f.StringVar(&v.Dir, "data-dir", "default", "")
	f.StringVar(&v.Level, "level", "info", "")
	f.DurationVar(&v.Wait, "wait", time.Second, "")
	f.StringSliceVar(&v.List, "list", nil, "")
	f.IntVar(&v.Max, "max", 1, "")
	f.BoolVar(&v.Yes, "sure", false, "")
	f.String(daemon.ConfigFlag, "", "")
	f.Bool(daemon.PrintConfigFlag, false, "")
	return f
}

func defaults(edit func(*values)) values {
	v := values{Dir: "default", Level: "info", Wait: time.Second, Max: 1}
	if edit != nil {
		edit(&v)
	}
	return v
}

func TestLoadOptions(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		args []string
		env  []string
		file string // "-": none
		want values
		errs []string
	}{
		{name: "defaults", file: "-", want: defaults(nil)},
		{name: "empty file", file: "", want: defaults(nil)},
		{name: "comments only", file: "# nothing\n", want: defaults(nil)},
		{name: "file", file: "data-dir: f\nwait: 5s\nlist: [a, b]\nmax: 1000000\nsure: true\n", want: defaults(func(v *values) {
			v.Dir, v.Wait, v.List, v.Max, v.Yes = "f", 5*time.Second, []string{"a", "b"}, 1000000, true
		})},
		{name: "one value for a list", file: "list: a,b", want: defaults(func(v *values) { v.List = []string{"a", "b"} })},
		{name: "a comma inside an entry", file: "list: ['a,b']", want: defaults(func(v *values) { v.List = []string{"a,b"} })},
		{name: "empty list", file: "list: []", want: defaults(func(v *values) { v.List = []string{} })},
		{name: "environment over file", env: []string{"X_DATA_DIR=e", "OTHER=1"}, file: "data-dir: f", want: defaults(func(v *values) { v.Dir = "e" })},
		{name: "empty variable counts", env: []string{"X_DATA_DIR="}, file: "data-dir: f", want: defaults(func(v *values) { v.Dir = "" })},
		{name: "list in the environment", env: []string{"X_LIST=a,b"}, file: "list: [c]", want: defaults(func(v *values) { v.List = []string{"a", "b"} })},
		{name: "flag over both", args: []string{"--data-dir=a"}, env: []string{"X_DATA_DIR=e"}, file: "data-dir: f", want: defaults(func(v *values) { v.Dir = "a" })},
		{name: "flag with the default's value", args: []string{"--data-dir=default"}, env: []string{"X_DATA_DIR=e"}, file: "-", want: defaults(nil)},
		{name: "each from another place", args: []string{"--level=a"}, env: []string{"X_WAIT=2s"}, file: "max: 7", want: defaults(func(v *values) {
			v.Level, v.Wait, v.Max = "a", 2*time.Second, 7
		})},
		{name: "config in the environment", env: []string{"X_CONFIG=whatever"}, file: "-", want: defaults(nil)},
		{name: "unknown key", file: "data_dir: f\nnone: 1", errs: []string{`unknown key "data_dir"`, `unknown key "none"`}},
		{name: "key overridden and unknown key", args: []string{"--level=a"}, file: "level: b\nnone: 1", errs: []string{`unknown key "none"`}},
		{name: "config inside the file", file: "config: other", errs: []string{`unknown key "config"`}},
		{name: "duplicate key", file: "level: a\nlevel: b", errs: []string{"already set"}},
		{name: "unknown variable", env: []string{"X_NONE=1"}, file: "-", errs: []string{"X_NONE: no such option"}},
		{name: "print-config is no variable", env: []string{"X_PRINT_CONFIG=true"}, file: "-", errs: []string{"X_PRINT_CONFIG"}},
		{name: "bad variable", env: []string{"X_WAIT=long"}, file: "-", errs: []string{"X_WAIT", "long"}},
		{name: "bad value", file: "wait: 5", errs: []string{"wait", "missing unit"}},
		{name: "all that is wrong", env: []string{"X_WAIT=long"}, file: "max: many\nnone: 1", errs: []string{"X_WAIT", "max", "none"}},
		{name: "no value", file: "data-dir:", errs: []string{"data-dir: has no value"}},
		{name: "map", file: "data-dir: {a: b}", errs: []string{"data-dir: want one value"}},
		{name: "list for one value", file: "data-dir: [a]", errs: []string{"data-dir: want one value, not a list"}},
		{name: "list of lists", file: "list: [a, [b]]", errs: []string{"list: entry 2"}},
		{name: "not a map", file: "- a", errs: []string{"configuration"}},
		{name: "not YAML", file: "a: b: c", errs: []string{"configuration"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var got values
			f := flags(&got)
			if err := f.Parse(tt.args); err != nil {
				t.Fatal(err)
			}
			file := ""
			if tt.file != "-" {
				file = filepath.Join(t.TempDir(), "c.yaml")
				if err := os.WriteFile(file, []byte(tt.file), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			err := daemon.LoadOptions(f, file, "X_", tt.env)
			if tt.errs == nil {
				if err != nil {
					t.Fatal(err)
				}
				if d := cmp.Diff(tt.want, got); d != "" {
					t.Error(d)
				}
				return
			}
			var de *daemon.Error
			if !errors.As(err, &de) || de.Code != daemon.ExitUsage || de.Hint == "" {
				t.Fatalf("%v: want an error of usage with a hint", err)
			}
			for _, part := range tt.errs {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("%q does not say %q", err, part)
				}
			}
		})
	}
}

func TestLoadOptionsMissingFile(t *testing.T) {
	t.Parallel()
	var v values
	err := daemon.LoadOptions(flags(&v), filepath.Join(t.TempDir(), "none.yaml"), "X_", nil)
	var de *daemon.Error
	if !errors.As(err, &de) || !errors.Is(err, os.ErrNotExist) || !strings.Contains(de.Hint, "--config") {
		t.Errorf("%v", err)
	}
}

// TestPrintOptions: what is printed, read back as the file, gives the same.
func TestPrintOptions(t *testing.T) {
	t.Parallel()
	var one, two values
	f := flags(&one)
	if err := f.Parse([]string{"--data-dir=a: b", "--list=x,y", "--wait=90s", "--max=1000000"}); err != nil {
		t.Fatal(err)
	}
	text := daemon.PrintOptions(f)
	if strings.Contains(text, "config") {
		t.Errorf("printed:\n%s", text)
	}
	file := filepath.Join(t.TempDir(), "c.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := daemon.LoadOptions(flags(&two), file, "X_", nil); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(one, two); d != "" {
		t.Error(d)
	}
}

func FuzzLoadOptions(f *testing.F) {
	f.Add("data-dir: x\nlist: [a, 1, true]\n", "X_WAIT=1s")
	f.Add("max: 1e400", "X_=")
	f.Fuzz(func(t *testing.T, text, env string) {
		file := filepath.Join(t.TempDir(), "c.yaml")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		var v values
		if err := daemon.LoadOptions(flags(&v), file, "X_", []string{env}); err != nil && err.Error() == "" {
			t.Error("an error without a text")
		}
	})
}
