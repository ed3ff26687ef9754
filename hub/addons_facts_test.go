// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package hub

import (
	"errors"
	"reflect"
	"testing"

	"github.com/google/go-cmp/cmp"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/drover-io/drover/hub/api"
	"github.com/drover-io/drover/hub/catalog"
	"github.com/drover-io/drover/hub/fleet"
)

type knownFacts map[string]fleet.Facts

func (k knownFacts) Facts(name string) (fleet.Facts, error) {
	f, ok := k[name]
	if !ok {
		return f, errors.New("no such cluster")
	}
	return f, nil
}

// Nothing of what the fleet knows is lost on the way to the catalog.
func TestClusterFacts(t *testing.T) {
	t.Parallel()
	c := clusterFacts{knownFacts{"shop-1": {
		Name: "shop-1", Labels: map[string]string{"a": "b"}, Claims: map[string]string{"c": "d"}, Kubernetes: "v1.36.3",
		APIs: []string{"v1"}, Nodes: 3, Architectures: []string{"arm64"}, Allocatable: map[string]string{"cpu": "1"},
	}}}
	got, err := c.Facts("shop-1")
	if err != nil {
		t.Fatal(err)
	}
	want := catalog.Facts{
		Name: "shop-1", Labels: map[string]string{"a": "b"}, Claims: map[string]string{"c": "d"}, Kubernetes: "v1.36.3",
		APIs: []string{"v1"}, Nodes: 3, Architectures: []string{"arm64"}, Allocatable: map[string]string{"cpu": "1"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	v := reflect.ValueOf(got)
	for i := range v.NumField() {
		if v.Field(i).IsZero() {
			t.Errorf("%s is not filled", v.Type().Field(i).Name)
		}
	}
	if _, err := c.Facts("none"); err == nil {
		t.Error("facts of no cluster")
	}
	if err := admitAPIList(t.Context(), &api.Admission{}); !apierrors.IsForbidden(err) {
		t.Errorf("a list by hand: %v", err)
	}
}
