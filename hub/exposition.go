// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package hub

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/drover-io/drover/shared/histogram"
)

// exposition writes the text format.
type exposition struct {
	buffer bytes.Buffer
	name   string // of the family begun last
}

func (e *exposition) family(name, kind, help string) {
	e.name = name
	fmt.Fprintf(&e.buffer, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, kind)
}

func (e *exposition) one(name, kind, help string, value float64) {
	e.family(name, kind, help)
	fmt.Fprintf(&e.buffer, "%s %s\n", name, number(value))
}

func (e *exposition) series(label, value string, n float64) {
	value = strings.NewReplacer(`\`, `\\`, "\n", `\n`, `"`, `\"`).Replace(value)
	fmt.Fprintf(&e.buffer, "%s{%s=\"%s\"} %s\n", e.name, label, value, number(n))
}

// labelled writes a counter by label; what is beyond maxSeries counts as "other".
func (e *exposition) labelled(name, help, label string, counts map[string]uint64) {
	e.family(name, "counter", help)
	other := uint64(0)
	for i, value := range slices.Sorted(maps.Keys(counts)) {
		if i >= maxSeries {
			other += counts[value]
			continue
		}
		e.series(label, value, float64(counts[value]))
	}
	if other > 0 {
		e.series(label, "other", float64(other))
	}
}

func number(f float64) string { return strconv.FormatFloat(f, 'f', -1, 64) }

// histogram writes the series of one histogram; labels is "" or `a="b",c="d"`.
func (e *exposition) histogram(labels string, h histogram.Snapshot) {
	separator := ""
	if labels != "" {
		separator = ","
	}
	total := uint64(0)
	for i, count := range h.Counts {
		total += count
		bound := "+Inf"
		if i < len(h.Bounds) {
			bound = number(h.Bounds[i])
		}
		fmt.Fprintf(&e.buffer, "%s_bucket{%s%sle=%q} %d\n", e.name, labels, separator, bound, total)
	}
	if labels != "" {
		labels = "{" + labels + "}"
	}
	fmt.Fprintf(&e.buffer, "%s_sum%s %s\n%s_count%s %d\n", e.name, labels, number(h.Sum), e.name, labels, total)
}
