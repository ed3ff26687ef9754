// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package delivery

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/drover-io/drover/shared/apis/work"
	"github.com/drover-io/drover/shared/wire"
)

// choice is an annotation with a fixed set of values, the first being the default.
type choice struct {
	annotation string
	values     []string
	field      func(*wire.Policy) *string
}

func choices() []choice {
	return []choice{
		{work.AnnotationAdoption, []string{wire.AdoptAlways, wire.AdoptIfNoDiff, wire.AdoptNever}, func(p *wire.Policy) *string { return &p.Adoption }},
		{work.AnnotationDrift, []string{wire.DriftCorrect, wire.DriftReport}, func(p *wire.Policy) *string { return &p.Drift }},
		{work.AnnotationPrune, []string{wire.PruneGuarded, wire.PruneUnguarded}, func(p *wire.Policy) *string { return &p.Prune }},
	}
}

var digestRE = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)

// planRE is what an agent names a plan: a digest, with or without its algorithm.
var planRE = regexp.MustCompile(`^(sha256:)?[0-9a-f]{16,64}$`)

// CheckAnnotations says what is wrong with the annotations of the work of that
// name. Those of others are not looked at.
func CheckAnnotations(name string, annotations map[string]string) field.ErrorList {
	var errs field.ErrorList
	at := func(key string) *field.Path { return field.NewPath("metadata", "annotations").Key(key) }
	for _, c := range choices() {
		if v, ok := annotations[c.annotation]; ok && !slices.Contains(c.values, v) {
			errs = append(errs, field.NotSupported(at(c.annotation), v, c.values))
		}
	}
	if v, ok := annotations[work.AnnotationApprovePrune]; ok && v != "" && !planRE.MatchString(v) {
		errs = append(errs, field.Invalid(at(work.AnnotationApprovePrune), v, "want the id of a prune plan, as status.prunePlan.id has it"))
	}
	if v, ok := annotations[work.AnnotationBundle]; ok && !digestRE.MatchString(v) {
		errs = append(errs, field.Invalid(at(work.AnnotationBundle), v, "want sha256: and 64 lower-case hexadecimal digits, as `drover bundle push` prints them"))
	}
	if v := annotations[work.AnnotationHealthRules]; v != "" {
		errs = append(errs, checkHealthRules(at(work.AnnotationHealthRules), v)...)
	}
	if v := annotations[work.AnnotationProtected]; v != "" {
		errs = append(errs, checkProtected(at(work.AnnotationProtected), v)...)
	}
	if v, ok := annotations[work.AnnotationTakeFrom]; ok {
		for _, other := range names(v) {
			switch {
			case other == name:
				errs = append(errs, field.Invalid(at(work.AnnotationTakeFrom), v, "a work cannot take from itself"))
			case len(validation.IsDNS1123Subdomain(other)) > 0:
				errs = append(errs, field.Invalid(at(work.AnnotationTakeFrom), v, fmt.Sprintf("%q is not the name of a work; separate names by commas", other)))
			}
		}
	}
	return errs
}

// policyOf reads the annotations of a work. What is not valid, which only a write
// past the API can leave, counts as its strictest value: nothing is adopted,
// corrected or removed by mistake.
func policyOf(annotations map[string]string) wire.Policy {
	var p wire.Policy
	for _, c := range choices() {
		v := annotations[c.annotation]
		switch {
		case v == "" || v == c.values[0]: // the default travels as the zero value
		case slices.Contains(c.values, v):
			*c.field(&p) = v
		case c.annotation != work.AnnotationPrune: // whose default is the strict one
			*c.field(&p) = c.values[len(c.values)-1]
		}
	}
	if v := annotations[work.AnnotationApprovePrune]; planRE.MatchString(v) {
		p.ApprovedPrune = v
	}
	return p
}

// names splits a list separated by commas.
func names(list string) []string {
	var out []string
	for name := range strings.SplitSeq(list, ",") {
		if name = strings.TrimSpace(name); name != "" {
			out = append(out, name)
		}
	}
	return out
}
