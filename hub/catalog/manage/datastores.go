// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package manage

import (
	"errors"
	"net/http"
	"net/url"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/drover-io/drover/shared/apis/fleet"
)

const msgDatastoreNotFound = "Datastore not found."

// datastore is an addon as users see it.
type datastore struct {
	ID             string `json:"id"`
	Name           string `json:"name"`
	DefaultVersion string `json:"default_version,omitempty"` // its id
}

// shown says which versions the caller sees: inactive ones are for those alone who
// may change them.
func (c *call) shown() (func(*fleet.AddOnVersion) bool, error) {
	admin, err := c.may(verbChange)
	return func(v *fleet.AddOnVersion) bool { return admin || active(v) }, err
}

// seen are the datastores that the caller sees, by id, all or one: those with a
// version that is shown, and for administrators those without any too.
func (c *call) seen(only string) ([]datastore, error) {
	admin, err := c.may(verbChange)
	if err != nil {
		return nil, err
	}
	defaults, visible := map[string]string{}, map[string]bool{}
	for next := ""; ; {
		page, err := c.page(only, readAtOnce, next)
		if err != nil {
			return nil, err
		}
		for i := range page.Items {
			v := &page.Items[i]
			if admin || active(v) {
				visible[v.Spec.AddOn] = true
			}
			// one in each channel of an addon; that of the channel without a name counts more
			if v.Spec.Default && (defaults[v.Spec.AddOn] == "" || v.Spec.Channel == "") {
				defaults[v.Spec.AddOn] = v.Name
			}
		}
		if next = page.Continue; next == "" {
			break
		}
	}
	names, err := c.addOns(only)
	if err != nil {
		return nil, err
	}
	out := []datastore{}
	for _, name := range names {
		if admin || visible[name] {
			out = append(out, datastore{ID: name, Name: name, DefaultVersion: defaults[name]})
		}
	}
	return out, nil
}

// addOns are the names of all addons, or of one if it exists.
func (c *call) addOns(only string) ([]string, error) {
	type object struct {
		metav1.ObjectMeta `json:"metadata"`
	}
	if only != "" {
		if !isName(only) {
			return nil, nil
		}
		var o object
		var f *fault
		err := c.send(http.MethodGet, apiDatastores+"/"+only, nil, nil, &o)
		if errors.As(err, &f) && f.code == http.StatusNotFound {
			return nil, nil
		}
		return []string{only}, err
	}
	var list struct {
		Items []object `json:"items"`
	}
	if err := c.send(http.MethodGet, apiDatastores, nil, nil, &list); err != nil {
		return nil, err
	}
	var out []string
	for _, o := range list.Items {
		out = append(out, o.Name)
	}
	return out, nil
}

func (c *call) datastores() (reply, error) {
	if _, err := c.query(); err != nil {
		return reply{}, err
	}
	list, err := c.seen("")
	if err != nil {
		return reply{}, err
	}
	return reply{code: http.StatusOK, body: map[string]any{"datastores": list}}, nil
}

// oneDatastore is the datastore of the path, if the caller sees it.
func (c *call) oneDatastore() (datastore, error) {
	list, err := c.seen(c.r.PathValue("datastore"))
	if err != nil {
		return datastore{}, err
	}
	if len(list) == 0 {
		return datastore{}, fail(http.StatusNotFound, msgDatastoreNotFound)
	}
	return list[0], nil
}

func (c *call) datastore() (reply, error) {
	d, err := c.oneDatastore()
	if err != nil {
		return reply{}, err
	}
	return reply{code: http.StatusOK, body: map[string]any{"datastore": d}}, nil
}

func (c *call) publicVersions() (reply, error) {
	q, err := c.query("limit", "marker")
	if err != nil {
		return reply{}, err
	}
	d, err := c.oneDatastore()
	if err != nil {
		return reply{}, err
	}
	shown, err := c.shown()
	if err != nil {
		return reply{}, err
	}
	return c.listVersions(d.ID, q, shown)
}

func (c *call) publicVersion() (reply, error) {
	shown, err := c.shown()
	if err != nil {
		return reply{}, err
	}
	v, err := c.get(c.r.PathValue("id"))
	if err != nil {
		return reply{}, err
	}
	if v.Spec.AddOn != c.r.PathValue("datastore") || !shown(v) {
		return reply{}, fail(http.StatusNotFound, msgVersionNotFound)
	}
	return reply{code: http.StatusOK, body: map[string]any{"version": viewOf(v)}}, nil
}

// deleteDatastore removes an addon that has no versions.
func (c *call) deleteDatastore() (reply, error) {
	name := c.r.PathValue("datastore")
	if !isName(name) {
		return reply{}, fail(http.StatusNotFound, msgDatastoreNotFound)
	}
	// A dry run first: who may not delete it learns nothing of its versions.
	err := c.send(http.MethodDelete, apiDatastores+"/"+name, url.Values{"dryRun": {"All"}}, nil, nil)
	if err == nil {
		err = c.hasNoVersions(name)
	}
	if err == nil {
		err = c.send(http.MethodDelete, apiDatastores+"/"+name, nil, nil, nil)
	}
	var f *fault
	if errors.As(err, &f) && f.code == http.StatusNotFound {
		err = fail(http.StatusNotFound, msgDatastoreNotFound)
	}
	return accepted(), err
}

// hasNoVersions answers 409, with the versions that a datastore has.
func (c *call) hasNoVersions(datastore string) error {
	const named = 8
	page, err := c.page(datastore, named, "")
	if err != nil || len(page.Items) == 0 {
		return err
	}
	var ids []string
	for i := range page.Items {
		ids = append(ids, page.Items[i].Name)
	}
	if page.Continue != "" {
		ids = append(ids, "…")
	}
	return fail(http.StatusConflict, "Datastore versions exist for datastore %q: %s", datastore, strings.Join(ids, ", "))
}
