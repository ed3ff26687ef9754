// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package manage

import (
	"fmt"
	"net/http"
	"regexp"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/drover-io/drover/hub/catalog/versions"
	"github.com/drover-io/drover/shared/apis/fleet"
)

// annotationName keeps the name of a version that has fewer than three numbers,
// such as 5.6, which an AddOnVersion writes as 5.6.0.
const annotationName = "fleet.drover.io/datastore-version-name"

// view is a version as the specification shows it. The id is the name of the
// AddOnVersion, and that of a datastore the name of the addon: both are unique, and
// say what they are of.
type view struct {
	DatastoreID   string   `json:"datastore_id"`
	DatastoreName string   `json:"datastore_name"`
	ID            string   `json:"id"`
	Name          string   `json:"name"`
	Manager       string   `json:"manager"`
	Image         string   `json:"image"`
	Packages      []string `json:"packages"`
	Active        bool     `json:"active"`
	Default       bool     `json:"default"`
}

func viewOf(v *fleet.AddOnVersion) view {
	out := view{
		DatastoreID: v.Spec.AddOn, DatastoreName: v.Spec.AddOn, ID: v.Name, Name: v.Spec.Version,
		Manager: v.Spec.Manager, Image: v.Spec.Image, Packages: v.Spec.Packages,
		Active: active(v), Default: v.Spec.Default,
	}
	if name := v.Annotations[annotationName]; name != "" {
		out.Name = name
	}
	if out.Manager == "" { // nobody looked at the content yet
		out.Manager = fleet.ManagerManifests
	}
	if out.Image == "" { // its content was in the object; the catalog made a bundle of it
		out.Image = v.Status.Digest
	}
	if out.Packages == nil {
		out.Packages = []string{}
	}
	return out
}

func active(v *fleet.AddOnVersion) bool { return v.Spec.Active == nil || *v.Spec.Active }

// versionRE is a semantic version of which the last numbers may be missing.
var versionRE = regexp.MustCompile(`^v?(0|[1-9]\d{0,17})(\.(?:0|[1-9]\d{0,17}))?(\.(?:0|[1-9]\d{0,17}))?(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?$`)

// complete makes a semantic version of the name of a datastore version: 5.6.0 of 5.6.
func complete(name string) (string, bool) {
	m := versionRE.FindStringSubmatch(name)
	if m == nil {
		return "", false
	}
	for i := 2; i <= 3; i++ {
		if m[i] == "" {
			m[i] = ".0"
		}
	}
	return strings.Join(m[1:], ""), true
}

var digestRE = regexp.MustCompile(`(^|@)sha256:[0-9a-f]{64}$`)

// checkImage answers 404 for what cannot be the name of an image: whatever it is, there is none.
func checkImage(image string) error {
	if !digestRE.MatchString(image) {
		return fail(http.StatusNotFound, "%s image: %s is neither the digest of a bundle of the catalog (sha256:…) nor an OCI reference pinned to a digest (registry/name@sha256:…)", msgImageNotFound, quoted(image))
	}
	return nil
}

// newVersion is the AddOnVersion that a POST asks for.
func newVersion(f *fields) (*fleet.AddOnVersion, error) {
	if problems := validation.IsDNS1123Subdomain(*f.Datastore); len(problems) > 0 {
		return nil, fail(http.StatusBadRequest, "version.datastore: %s: %s", quoted(*f.Datastore), problems[0])
	}
	number, ok := complete(*f.Name)
	parsed, err := versions.Parse(number)
	if !ok || err != nil {
		return nil, fail(http.StatusBadRequest, "version.name: %s is not a version such as 5.6, 5.6.1 or 5.7.0-rc.1", quoted(*f.Name))
	}
	if f.Active != nil && !*f.Active && f.Default != nil && *f.Default {
		return nil, fail(http.StatusBadRequest, "version.default: an inactive version cannot be the default")
	}
	if err := checkImage(*f.Image); err != nil {
		return nil, err
	}
	v := &fleet.AddOnVersion{
		TypeMeta: metav1.TypeMeta{APIVersion: fleet.Group + "/" + fleet.Version, Kind: fleet.KindAddOnVersion},
		ObjectMeta: metav1.ObjectMeta{
			Name: versions.ObjectName(*f.Datastore, parsed),
		},
		Spec: fleet.AddOnVersionSpec{AddOn: *f.Datastore, Version: number, Image: *f.Image, Active: f.Active},
	}
	if number != *f.Name {
		v.Annotations = map[string]string{annotationName: *f.Name}
	}
	if f.Manager != nil {
		v.Spec.Manager = *f.Manager
	}
	if f.Packages != nil {
		v.Spec.Packages = *f.Packages
	}
	if f.Default != nil {
		v.Spec.Default = *f.Default
	}
	return v, nil
}

// change is what a PATCH alters in a version as it is now, as a merge patch of
// spec; nothing when it is so already.
func change(v *fleet.AddOnVersion, f *fields) (map[string]any, error) {
	out := map[string]any{}
	isActive, isDefault := active(v), v.Spec.Default
	if f.Default != nil && *f.Default != isDefault {
		out["default"] = *f.Default
		isDefault = *f.Default
	}
	if f.Active != nil && *f.Active != isActive {
		out["active"] = *f.Active
		isActive = *f.Active
	}
	if isDefault && !isActive {
		if f.Default != nil {
			return nil, fail(http.StatusBadRequest, "default: an inactive version cannot be the default")
		}
		return nil, fail(http.StatusConflict, "active: this version is the default of datastore %q: make another one the default first, or send \"default\": false too", v.Spec.AddOn)
	}
	if f.Image != nil && *f.Image != viewOf(v).Image {
		if err := checkImage(*f.Image); err != nil {
			return nil, err
		}
		out["image"], out["manifests"] = *f.Image, nil
	}
	if f.Manager != nil && *f.Manager != viewOf(v).Manager {
		out["manager"] = *f.Manager
	}
	if f.Packages != nil && fmt.Sprintf("%q", *f.Packages) != fmt.Sprintf("%q", viewOf(v).Packages) {
		out["packages"] = *f.Packages
	}
	return out, nil
}
