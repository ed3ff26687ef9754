// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package delivery

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/drover-io/drover/shared/apis/fleet"
	"github.com/drover-io/drover/shared/apis/work"
	"github.com/drover-io/drover/shared/expression"
)

const (
	maxRuleText = 1024           // bytes of a name or message
	maxTimeout  = 24 * time.Hour // of a rule
	maxPattern  = 316            // bytes of a field of an object pattern
)

// checkHealthRules says what is wrong with the value of AnnotationHealthRules.
func checkHealthRules(path *field.Path, value string) field.ErrorList {
	var rules []fleet.HealthRule
	if err := decodeList(value, work.MaxHealthRulesBytes, &rules); err != nil {
		return field.ErrorList{field.Invalid(path, excerpt(value), "want a JSON list of health rules: "+err.Error())}
	}
	if len(rules) > work.MaxHealthRules {
		return field.ErrorList{field.TooMany(path, len(rules), work.MaxHealthRules)}
	}
	return CheckHealthRules(path, rules)
}

// CheckHealthRules says what is wrong with health rules of an addon or a work.
func CheckHealthRules(path *field.Path, rules []fleet.HealthRule) field.ErrorList {
	if len(rules) == 0 {
		return nil
	}
	env, err := expression.NewEnvironment()
	if err != nil {
		return field.ErrorList{field.InternalError(path, err)}
	}
	var errs field.ErrorList
	for i := range rules {
		r, at := &rules[i], path.Index(i)
		switch {
		case r.Name == "":
			errs = append(errs, field.Required(at.Child("name"), "a rule needs a name: messages name it"))
		case len(r.Name) > maxRuleText:
			errs = append(errs, field.TooLong(at.Child("name"), "", maxRuleText))
		}
		errs = append(errs, checkPattern(at.Child("object"), &r.Object)...)
		if r.Object.Kind == "Secret" && r.Object.Group == "" {
			errs = append(errs, field.Invalid(at.Child("object", "kind"), r.Object.Kind, "agents do not read Secrets, only whether they exist: no rule can be about what is in one"))
		}
		if len(r.Message) > maxRuleText {
			errs = append(errs, field.TooLong(at.Child("message"), "", maxRuleText))
		}
		if t := r.Timeout.Duration; t < 0 || t > maxTimeout {
			errs = append(errs, field.Invalid(at.Child("timeout"), t.String(), fmt.Sprintf("want 0s, which is none, to %s", maxTimeout)))
		}
		if r.Expression == "" {
			errs = append(errs, field.Required(at.Child("expression"), "a rule needs a CEL expression over object that yields a bool, such as object.status.phase == 'Ready'"))
		} else if err := expression.CheckTruth(env, r.Expression); err != nil {
			errs = append(errs, field.Invalid(at.Child("expression"), excerpt(r.Expression), err.Error()))
		}
	}
	return errs
}

// checkProtected says what is wrong with the value of AnnotationProtected.
func checkProtected(path *field.Path, value string) field.ErrorList {
	var patterns []fleet.ObjectPattern
	if err := decodeList(value, work.MaxProtectedBytes, &patterns); err != nil {
		return field.ErrorList{field.Invalid(path, excerpt(value), "want a JSON list of object patterns: "+err.Error())}
	}
	if len(patterns) > work.MaxProtected {
		return field.ErrorList{field.TooMany(path, len(patterns), work.MaxProtected)}
	}
	var errs field.ErrorList
	for i := range patterns {
		errs = append(errs, checkPattern(path.Index(i), &patterns[i])...)
	}
	return errs
}

func checkPattern(path *field.Path, p *fleet.ObjectPattern) field.ErrorList {
	var errs field.ErrorList
	for name, value := range map[string]string{"group": p.Group, "kind": p.Kind, "namespace": p.Namespace, "name": p.Name} {
		if len(value) > maxPattern {
			errs = append(errs, field.TooLong(path.Child(name), "", maxPattern))
		}
		if value == "*" && name != "name" {
			errs = append(errs, field.Invalid(path.Child(name), value, "leave it out to match any"))
		}
	}
	return errs
}

// decodeList decodes a JSON list; fields that it does not know are an error.
func decodeList(value string, limit int, into any) error {
	if len(value) > limit {
		return fmt.Errorf("%d bytes, at most %d", len(value), limit)
	}
	dec := json.NewDecoder(bytes.NewReader([]byte(value)))
	dec.DisallowUnknownFields()
	if err := dec.Decode(into); err != nil {
		return err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return errors.New("something follows the list")
	}
	return nil
}

// excerpt keeps errors readable.
func excerpt(s string) string {
	if len(s) <= 100 {
		return s
	}
	return fmt.Sprintf("%.97q...", s)
}
