// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package auth

import (
	"fmt"
	"slices"
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apiserver/pkg/authorization/authorizer"
)

// all stands for every verb, group, resource or path.
const all = "*"

func covers(list []string, s string) bool {
	return slices.Contains(list, s) || slices.Contains(list, all)
}

// ruleAllows compares one rule with one request, as Kubernetes does, but for an
// empty resource name, which Kubernetes lets match a request without a name.
func ruleAllows(r *rbacv1.PolicyRule, a authorizer.Attributes) bool {
	if !covers(r.Verbs, a.GetVerb()) {
		return false
	}
	if !a.IsResourceRequest() {
		return slices.ContainsFunc(r.NonResourceURLs, func(url string) bool { return urlCovers(url, a.GetPath()) })
	}
	return covers(r.APIGroups, a.GetAPIGroup()) &&
		resourceCovers(r.Resources, a.GetResource(), a.GetSubresource()) &&
		nameCovers(r.ResourceNames, a.GetName())
}

// resourceCovers: "x" is not its subresources, "*" is everything, "*/sub" the
// subresource of all.
func resourceCovers(list []string, resource, sub string) bool {
	if sub == "" {
		return covers(list, resource)
	}
	return covers(list, resource+"/"+sub) || slices.Contains(list, "*/"+sub)
}

// nameCovers: a rule with names never covers a request that names nothing.
func nameCovers(names []string, name string) bool {
	return len(names) == 0 || name != "" && slices.Contains(names, name)
}

// urlCovers also compares two patterns: a pattern covers all that is longer.
func urlCovers(pattern, path string) bool {
	if pattern == path {
		return true
	}
	return strings.HasSuffix(pattern, all) && strings.HasPrefix(path, strings.TrimRight(pattern, all))
}

// maxCompared bounds the work of one Uncovered, in comparisons of strings: a
// short role can multiply to billions of combinations.
const maxCompared = 50_000_000

// Uncovered returns what of the wanted rules the held ones do not allow, broken
// down to single verbs and resources; empty when they allow all. Names of objects
// may come from several held rules.
//
// It is what Kubernetes calls Covers, but that it gives up on rules that are too
// long to compare, and returns those as they are.
func Uncovered(held, wanted []rbacv1.PolicyRule) []rbacv1.PolicyRule {
	var missing []rbacv1.PolicyRule
	weight := 0
	for i := range held {
		weight += words(&held[i])
	}
	left := maxCompared
	spend := func(n int) bool {
		if n > left {
			return false
		}
		left -= n
		return true
	}
	for i := range wanted {
		w := &wanted[i]
		if !spend(times(words(w), weight)) {
			missing = append(missing, *w)
			continue
		}
		if slices.ContainsFunc(held, func(h rbacv1.PolicyRule) bool { return coversWhole(&h, w) }) {
			continue
		}
		single := times(len(w.Verbs), times(len(w.APIGroups), len(w.Resources)))
		if !spend(times(single, weight+len(w.ResourceNames)+1)) || !spend(times(times(len(w.Verbs), len(w.NonResourceURLs)), weight+1)) {
			missing = append(missing, *w)
			continue
		}
		missing = append(missing, uncoveredURLs(held, w)...)
		missing = append(missing, uncoveredResources(held, w)...)
	}
	return missing
}

// words is the length of a rule.
func words(r *rbacv1.PolicyRule) int {
	return len(r.Verbs) + len(r.APIGroups) + len(r.Resources) + len(r.ResourceNames) + len(r.NonResourceURLs)
}

// times multiplies, up to something above maxCompared.
func times(a, b int) int { return min(min(a, maxCompared+1)*min(b, maxCompared+1), maxCompared+1) }

// coversWhole is the fast way: one rule that covers another as it is.
func coversWhole(h, w *rbacv1.PolicyRule) bool {
	every := func(wanted []string, ok func(string) bool) bool {
		return !slices.ContainsFunc(wanted, func(s string) bool { return !ok(s) })
	}
	if !every(w.Verbs, func(s string) bool { return covers(h.Verbs, s) }) {
		return false
	}
	if !every(w.NonResourceURLs, func(s string) bool {
		return slices.ContainsFunc(h.NonResourceURLs, func(p string) bool { return urlCovers(p, s) })
	}) {
		return false
	}
	if len(w.APIGroups) == 0 || len(w.Resources) == 0 {
		return true // no resources at all
	}
	return every(w.APIGroups, func(s string) bool { return covers(h.APIGroups, s) }) &&
		every(w.Resources, func(s string) bool { return patternCovers(h.Resources, s) }) &&
		namesCover(h.ResourceNames, w.ResourceNames)
}

// patternCovers is resourceCovers for what a rule says, such as "x/status" or "*/status".
func patternCovers(list []string, wanted string) bool {
	resource, sub, _ := strings.Cut(wanted, "/")
	return resourceCovers(list, resource, sub)
}

// namesCover: no names means all names, which no list of names covers.
func namesCover(held, wanted []string) bool {
	if len(held) == 0 {
		return true
	}
	return len(wanted) > 0 && !slices.ContainsFunc(wanted, func(s string) bool { return !slices.Contains(held, s) })
}

func uncoveredURLs(held []rbacv1.PolicyRule, w *rbacv1.PolicyRule) []rbacv1.PolicyRule {
	var missing []rbacv1.PolicyRule
	for _, url := range w.NonResourceURLs {
		for _, verb := range w.Verbs {
			one := rbacv1.PolicyRule{Verbs: []string{verb}, NonResourceURLs: []string{url}}
			if !slices.ContainsFunc(held, func(h rbacv1.PolicyRule) bool { return coversWhole(&h, &one) }) {
				missing = append(missing, one)
			}
		}
	}
	return missing
}

func uncoveredResources(held []rbacv1.PolicyRule, w *rbacv1.PolicyRule) []rbacv1.PolicyRule {
	var missing []rbacv1.PolicyRule
	for _, group := range w.APIGroups {
		for _, resource := range w.Resources {
			for _, verb := range w.Verbs {
				one := rbacv1.PolicyRule{Verbs: []string{verb}, APIGroups: []string{group}, Resources: []string{resource}}
				if !coverNames(held, &one, w.ResourceNames) {
					one.ResourceNames = w.ResourceNames
					missing = append(missing, one)
				}
			}
		}
	}
	return missing
}

// coverNames reports whether the held rules that cover one verb of one resource
// have, together, all the names.
func coverNames(held []rbacv1.PolicyRule, one *rbacv1.PolicyRule, wanted []string) bool {
	have := map[string]bool{}
	for i := range held {
		h := &held[i]
		if !covers(h.Verbs, one.Verbs[0]) || !covers(h.APIGroups, one.APIGroups[0]) || !patternCovers(h.Resources, one.Resources[0]) {
			continue
		}
		if len(h.ResourceNames) == 0 {
			return true
		}
		for _, name := range h.ResourceNames {
			have[name] = true
		}
	}
	return len(wanted) > 0 && !slices.ContainsFunc(wanted, func(s string) bool { return !have[s] })
}

// maxDescribed is how many rules a message lists.
const maxDescribed = 10

// describe names rules for a message, one a line.
func describe(rules []rbacv1.PolicyRule) string {
	var b strings.Builder
	for i, r := range rules {
		if i == maxDescribed {
			fmt.Fprintf(&b, "\nand %d more", len(rules)-i)
			break
		}
		if i > 0 {
			b.WriteByte('\n')
		}
		b.WriteByte('{')
		sep := ""
		for _, f := range []struct {
			name string
			list []string
		}{{"APIGroups", r.APIGroups}, {"Resources", r.Resources}, {"ResourceNames", r.ResourceNames}, {"NonResourceURLs", r.NonResourceURLs}, {"Verbs", r.Verbs}} {
			if len(f.list) > 0 {
				fmt.Fprintf(&b, "%s%s:%.1000q", sep, f.name, f.list[:min(len(f.list), maxDescribed)])
				sep = ", "
			}
		}
		b.WriteByte('}')
	}
	return b.String()
}
