// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package depend

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/drover-io/drover/hub/catalog"
	"github.com/drover-io/drover/hub/catalog/versions"
	"github.com/drover-io/drover/shared/apis/fleet"
)

// Verdict is whether a cluster has what a version requires.
type Verdict string

// The verdicts. Unknown: nothing is known to be missing, but not all is known.
const (
	Met     Verdict = "Met"
	NotMet  Verdict = "NotMet"
	Unknown Verdict = "Unknown"
)

// Finding is a verdict with its reasons: what is missing, and what is not known.
type Finding struct {
	Verdict Verdict
	Missing []string
	Unknown []string
}

// String says it in a sentence, empty when all is met.
func (f Finding) String() string {
	parts := slices.Clone(f.Missing)
	for _, u := range f.Unknown {
		parts = append(parts, u+" is not known yet")
	}
	return strings.Join(parts, "; ")
}

// Require holds a cluster against the requirements of a version. Its error says
// which of them cannot be read.
func Require(r *fleet.Requirements, cluster catalog.Facts) (Finding, error) {
	f := Finding{Verdict: Met}
	if r == nil {
		return f, nil
	}
	if err := f.kubernetes(r.Kubernetes, cluster); err != nil {
		return Finding{}, fmt.Errorf("spec.requirements.kubernetes: %w", err)
	}
	f.apis(r.APIs, cluster)
	if r.Nodes != nil {
		if err := f.nodes(r.Nodes, cluster); err != nil {
			return Finding{}, fmt.Errorf("spec.requirements.nodes.%w", err)
		}
	}
	if r.ClusterSelector != nil {
		selector, err := metav1.LabelSelectorAsSelector(r.ClusterSelector)
		if err != nil {
			return Finding{}, fmt.Errorf("spec.requirements.clusterSelector: %w", err)
		}
		if !selector.Matches(labels.Set(cluster.Labels)) {
			f.missing("the labels of the cluster do not match %s", selector)
		}
	}
	switch {
	case len(f.Missing) > 0:
		f.Verdict = NotMet
	case len(f.Unknown) > 0:
		f.Verdict = Unknown
	}
	return f, nil
}

func (f *Finding) missing(format string, args ...any) {
	f.Missing = append(f.Missing, fmt.Sprintf(format, args...))
}

func (f *Finding) kubernetes(text string, cluster catalog.Facts) error {
	if text == "" {
		return nil
	}
	r, err := versions.ParseRange(text)
	if err != nil {
		return err
	}
	if cluster.Kubernetes == "" {
		f.Unknown = append(f.Unknown, "the version of Kubernetes")
		return nil
	}
	v, err := versions.ParseKubernetes(cluster.Kubernetes)
	if err != nil {
		f.Unknown = append(f.Unknown, fmt.Sprintf("what version of Kubernetes %q is", cluster.Kubernetes))
		return nil
	}
	if !r.Contains(v) {
		f.missing("Kubernetes %s is not in %s", cluster.Kubernetes, r)
	}
	return nil
}

func (f *Finding) apis(want []string, cluster catalog.Facts) {
	if len(want) == 0 {
		return
	}
	if cluster.APIs == nil {
		f.Unknown = append(f.Unknown, "which APIs the cluster serves")
		return
	}
	for _, api := range want {
		if _, ok := slices.BinarySearch(cluster.APIs, api); !ok {
			f.missing("the cluster does not serve %s", api)
		}
	}
}

func (f *Finding) nodes(n *fleet.NodeRequirements, cluster catalog.Facts) error {
	if n.Minimum > 0 {
		switch known := cluster.Nodes > 0 || len(cluster.Architectures) > 0 || len(cluster.Allocatable) > 0; {
		case !known:
			f.Unknown = append(f.Unknown, "how many nodes the cluster has")
		case cluster.Nodes < int(n.Minimum):
			f.missing("the cluster has %d nodes, fewer than %d", cluster.Nodes, n.Minimum)
		}
	}
	if len(n.Architectures) > 0 {
		if len(cluster.Architectures) == 0 {
			f.Unknown = append(f.Unknown, "the architecture of the nodes")
		}
		for _, have := range cluster.Architectures {
			if !slices.Contains(n.Architectures, have) {
				f.missing("there are nodes of the architecture %s, and only %s will do", have, strings.Join(n.Architectures, ", "))
			}
		}
	}
	amounts := map[string]string{"cpu": n.CPU, "memory": n.Memory}
	for _, name := range slices.Sorted(maps.Keys(amounts)) {
		if amounts[name] == "" {
			continue
		}
		want, err := resource.ParseQuantity(amounts[name])
		if err != nil {
			return fmt.Errorf("%s: %q is not a quantity such as 2 or 4Gi", name, amounts[name])
		}
		have, err := resource.ParseQuantity(cluster.Allocatable[name])
		if err != nil {
			f.Unknown = append(f.Unknown, "how much "+name+" the nodes offer")
			continue
		}
		if have.Cmp(want) < 0 {
			f.missing("the nodes offer %s of %s, less than %s", have.String(), name, want.String())
		}
	}
	return nil
}

// CheckRequirements says which of the requirements of a version cannot be read.
func CheckRequirements(r *fleet.Requirements) error {
	_, err := Require(r, catalog.Facts{})
	return err
}
