// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package versions

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/Masterminds/semver/v3"
)

// Range is a set of versions. The zero Range holds every version.
type Range struct {
	text string
	c    *semver.Constraints // nil: every version
}

// ParseRange reads a range. Its error says which part is wrong and where that
// begins. A range in which no version can ever be is wrong too.
func ParseRange(text string) (Range, error) {
	trimmed := strings.TrimSpace(text)
	if trimmed == "" {
		return Range{}, nil
	}
	if len(text) > maxLength {
		return Range{}, fmt.Errorf("range %.32q...: longer than %d characters", text, maxLength)
	}
	at := 0
	for alternative := range strings.SplitSeq(text, "||") {
		if strings.TrimSpace(alternative) == "" {
			return Range{}, fmt.Errorf("range %q: nothing stands at character %d, where an alternative should be", text, at+1)
		}
		at += len(alternative) + len("||")
	}
	c, err := semver.NewConstraint(trimmed)
	if err != nil {
		return Range{}, misread(text)
	}
	r := Range{text: trimmed, c: c}
	if !r.possible() {
		return Range{}, fmt.Errorf("range %q: no version can be in it, as its parts exclude each other", text)
	}
	return r, nil
}

// comparison is an operator and what it compares with, however it is written.
var comparisonRE = regexp.MustCompile(`(?:[=!<>~^]+\s*)?[^\s,|=!<>~^]+|[=!<>~^]+`)

// misread names the first comparison of a text that is none.
func misread(text string) error {
	for _, at := range comparisonRE.FindAllStringIndex(text, -1) {
		part := text[at[0]:at[1]]
		if _, err := semver.NewConstraint(part); err != nil && part != "-" {
			return fmt.Errorf("range %q: %q at character %d is not a comparison such as >=1.2.0, ^1.4 or 1.x", text, part, at[0]+1)
		}
	}
	return fmt.Errorf("range %q: not comparisons divided by blanks, such as >=1.2.0 <2.0.0", text)
}

// Any reports that every version is in the range, prereleases included.
func (r Range) Any() bool { return r.c == nil }

// Contains reports whether a version is in the range.
func (r Range) Contains(v Version) bool {
	if v.v == nil {
		return false
	}
	return r.c == nil || r.c.Check(v.v)
}

// String is the text of the range, "any version" if that is empty.
func (r Range) String() string {
	if r.c == nil {
		return "any version"
	}
	return r.text
}

var numberRE = regexp.MustCompile(`(\d+)(?:\.(\d+))?(?:\.(\d+))?(?:-([0-9A-Za-z.-]+))?`)

// possible reports whether any version can be in the range. The least version of
// an intersection of comparisons is one that they name, or the one next to it, so
// it is enough to try those.
func (r Range) possible() bool {
	try := func(major, minor, patch uint64, pre string) bool {
		return r.c.Check(semver.New(major, minor, patch, pre, ""))
	}
	if try(0, 0, 0, "") || try(0, 0, 0, "0") || try(0, 0, 1, "") {
		return true
	}
	for _, m := range numberRE.FindAllStringSubmatch(r.text, -1) {
		var n [3]uint64
		for i := range n {
			n[i], _ = strconv.ParseUint(m[i+1], 10, 63) // not given: 0
		}
		if m[4] != "" && (try(n[0], n[1], n[2], m[4]) || try(n[0], n[1], n[2], m[4]+".0")) {
			return true
		}
		if try(n[0], n[1], n[2], "") || try(n[0], n[1], n[2], "0") ||
			try(n[0], n[1], n[2]+1, "") || try(n[0], n[1]+1, 0, "") || try(n[0]+1, 0, 0, "") ||
			try(n[0], n[1], n[2]+1, "0") || try(n[0], n[1]+1, 0, "0") || try(n[0]+1, 0, 0, "0") {
			return true
		}
	}
	return false
}
