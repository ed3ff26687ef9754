// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package typescript_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/drover-io/drover/hub/web/typescript"
)

// TestFiles: the sources in src are those of the structs of today.
func TestFiles(t *testing.T) {
	t.Parallel()
	files, err := typescript.Files()
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range files {
		have, err := os.ReadFile(filepath.Join("..", "src", name))
		if err != nil {
			t.Fatalf("%v: run make ui", err)
		}
		if diff := cmp.Diff(string(want), string(have)); diff != "" {
			t.Errorf("src/%s is not what the structs say, run make ui:\n%s", name, diff)
		}
	}
}

type inner struct {
	At   time.Time `json:"at"`
	Next *inner    `json:"next,omitempty"`
}

type outer struct {
	metav1.TypeMeta `json:",inline"`
	inner

	Name    string            `json:"name"`
	Share   *float64          `json:"share"`
	Columns [][]*float64      `json:"columns"`
	Labels  map[string]string `json:"labels,omitempty"`
	Raw     json.RawMessage   `json:"raw"`
	Data    []byte            `json:"data"`
	List    []inner           `json:"list"`
	Dashed  bool              `json:"with-dash,omitempty"`
	Hidden  string            `json:"-"`
	private string
}

func TestTypes(t *testing.T) {
	t.Parallel()
	const want = `export type inner = {
  at: string;
  next?: inner;
};

export type outer = {
  kind?: string;
  apiVersion?: string;
  at: string;
  next?: inner;
  name: string;
  share: number | null;
  columns: ((number | null)[])[];
  labels?: Record<string, string>;
  raw: unknown;
  data: string;
  list: inner[];
  "with-dash"?: boolean;
};

`
	if diff := cmp.Diff(want, typescript.Types(outer{private: ""})); diff != "" {
		t.Error(diff)
	}
}
