// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package manage

import (
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/drover-io/drover/shared/apis/fleet"
)

const (
	// readAtOnce is how many objects are read from the API in one piece.
	readAtOnce = 100
	maxLimit   = 1000
	// maxTries is how often a change is made again on a new look, when somebody
	// else changed the version meanwhile.
	maxTries = 8
)

// accepted is the answer to all changes.
func accepted() reply { return reply{code: http.StatusAccepted, body: map[string]any{}} }

func (c *call) create() (reply, error) {
	data, err := readBody(c.w, c.r)
	if err != nil {
		return reply{}, err
	}
	f, err := readNew(data)
	if err != nil {
		return reply{}, err
	}
	v, err := newVersion(f)
	if err != nil {
		return reply{}, err
	}
	if err := c.send(http.MethodPost, apiVersions, nil, v, nil); err != nil {
		return reply{}, err
	}
	out := accepted()
	out.header = http.Header{"Location": {c.r.URL.Path + "/" + v.Name}}
	return out, nil
}

// get reads one version; 404 in the words of the specification.
func (c *call) get(id string) (*fleet.AddOnVersion, error) {
	var v fleet.AddOnVersion
	if !isName(id) {
		return nil, fail(http.StatusNotFound, msgVersionNotFound)
	}
	err := c.send(http.MethodGet, apiVersions+"/"+id, nil, nil, &v)
	return &v, versionMissing(err)
}

// isName says whether an object can be called so. What is none must not become a
// part of a path.
func isName(text string) bool { return len(validation.IsDNS1123Subdomain(text)) == 0 }

func versionMissing(err error) error {
	var f *fault
	if errors.As(err, &f) && f.code == http.StatusNotFound && !strings.HasPrefix(f.message, msgImageNotFound) {
		return fail(http.StatusNotFound, "%s", msgVersionNotFound)
	}
	return err
}

func (c *call) show() (reply, error) {
	v, err := c.get(c.r.PathValue("id"))
	if err != nil {
		return reply{}, err
	}
	return reply{code: http.StatusOK, body: map[string]any{"version": viewOf(v)}}, nil
}

func (c *call) list() (reply, error) {
	q, err := c.query("limit", "marker", "datastore")
	if err != nil {
		return reply{}, err
	}
	return c.listVersions(q.Get("datastore"), q, func(*fleet.AddOnVersion) bool { return true })
}

// listVersions answers with the versions of an addon, or of all, that are shown,
// sorted by id. A page may hold fewer than its limit.
func (c *call) listVersions(addOn string, q url.Values, shown func(*fleet.AddOnVersion) bool) (reply, error) {
	limit := 0
	if text := q.Get("limit"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > maxLimit {
			return reply{}, fail(http.StatusBadRequest, "limit: must be a number from 1 to %d", maxLimit)
		}
		limit = n
	}
	versions := []view{}
	read, next := 0, q.Get("marker")
	for {
		size := readAtOnce
		if limit > 0 {
			size = min(size, limit-read)
		}
		page, err := c.page(addOn, size, next)
		if err != nil {
			return reply{}, err
		}
		for i := range page.Items {
			if shown(&page.Items[i]) {
				versions = append(versions, viewOf(&page.Items[i]))
			}
		}
		read, next = read+len(page.Items), page.Continue
		if next == "" || read == limit {
			break
		}
	}
	body := map[string]any{"versions": versions}
	if next != "" {
		q = url.Values{"limit": {strconv.Itoa(limit)}, "marker": {next}, "datastore": q["datastore"]}
		body["links"] = []map[string]string{{"rel": "next", "href": c.r.URL.Path + "?" + q.Encode()}}
	}
	return reply{code: http.StatusOK, body: body}, nil
}

type versionList struct {
	metav1.ListMeta `json:"metadata"`
	Items           []fleet.AddOnVersion `json:"items"`
}

// page reads AddOnVersions from the API.
func (c *call) page(addOn string, limit int, next string) (*versionList, error) {
	q := url.Values{"limit": {strconv.Itoa(limit)}}
	if addOn != "" {
		if !isName(addOn) {
			return &versionList{}, nil
		}
		q.Set("fieldSelector", "spec.addOn="+addOn)
	}
	if next != "" {
		q.Set("continue", next)
	}
	var out versionList
	err := c.send(http.MethodGet, apiVersions, q, nil, &out)
	var f *fault
	if next != "" && errors.As(err, &f) && f.code == http.StatusBadRequest {
		err = fail(http.StatusBadRequest, "marker: not one of this list, or too old; start again without one")
	}
	return &out, err
}

// query returns the parameters of a request, of which no others are known.
func (c *call) query(known ...string) (url.Values, error) {
	q, err := url.ParseQuery(c.r.URL.RawQuery)
	if err != nil {
		return nil, fail(http.StatusBadRequest, "the query cannot be read: %v", err)
	}
	for key, values := range q {
		switch {
		case !slices.Contains(known, key):
			return nil, fail(http.StatusBadRequest, "%s: not a parameter of this path", quoted(key))
		case len(values) != 1:
			return nil, fail(http.StatusBadRequest, "%s: there twice", key)
		}
	}
	return q, nil
}

// retry does something on a fresh look as long as somebody else was faster.
func retry(try func() error) error {
	for n := 1; ; n++ {
		err := try()
		var f *fault
		if !errors.As(err, &f) || !f.stale || n == maxTries {
			return err
		}
	}
}

func (c *call) patch() (reply, error) {
	data, err := readBody(c.w, c.r)
	if err != nil {
		return reply{}, err
	}
	f, err := readChange(data)
	if err != nil {
		return reply{}, err
	}
	id := c.r.PathValue("id")
	err = retry(func() error {
		v, err := c.get(id)
		if err != nil {
			return err
		}
		spec, err := change(v, f)
		if err != nil || len(spec) == 0 {
			return err
		}
		return versionMissing(c.send(http.MethodPatch, apiVersions+"/"+id, nil, map[string]any{
			"metadata": map[string]any{"uid": v.UID, "resourceVersion": v.ResourceVersion}, "spec": spec,
		}, nil))
	})
	return accepted(), err
}

func (c *call) delete() (reply, error) {
	q, err := c.query("clear_default")
	if err != nil {
		return reply{}, err
	}
	clearDefault := false
	if text := q.Get("clear_default"); text != "" {
		if clearDefault, err = strconv.ParseBool(text); err != nil {
			return reply{}, fail(http.StatusBadRequest, "clear_default: must be true or false")
		}
	}
	id := c.r.PathValue("id")
	err = retry(func() error {
		v, err := c.get(id)
		if err != nil {
			return err
		}
		if v.Spec.Default && !clearDefault {
			page, err := c.page(v.Spec.AddOn, 2, "")
			if err != nil {
				return err
			}
			if len(page.Items) > 1 {
				return fail(http.StatusConflict, "this version is the default of datastore %q: make another one the default first, or add ?clear_default=true", v.Spec.AddOn)
			}
		}
		err = c.send(http.MethodDelete, apiVersions+"/"+id, nil, &metav1.DeleteOptions{
			TypeMeta:      metav1.TypeMeta{APIVersion: "meta.k8s.io/v1", Kind: "DeleteOptions"},
			Preconditions: &metav1.Preconditions{UID: &v.UID, ResourceVersion: &v.ResourceVersion},
		}, nil)
		var f *fault
		if errors.As(err, &f) && f.code == http.StatusConflict && !f.stale {
			return fail(http.StatusConflict, "%s %s", msgInUse, f.message)
		}
		return versionMissing(err)
	})
	return accepted(), err
}
