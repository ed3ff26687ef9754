// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

// Package source reads what an addon version is made of: an archive or a bundle by
// its digest, an OCI artifact that was pulled, or manifests given inline.
package source

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/drover-io/drover/hub/catalog"
	"github.com/drover-io/drover/shared/apis/fleet"
	"github.com/drover-io/drover/shared/archive"
)

// BundleFile is the file that the objects of a bundle are in, one a line. They are
// no templates.
const BundleFile = "objects.ndjson"

// ErrStore: the content could not be read from where it is stored.
var ErrStore = errors.New("read stored content")

// Bundles is where content is stored by digest. An error is fs.ErrNotExist when
// there is no such bundle.
type Bundles interface {
	Bundle(ctx context.Context, digest string) ([]byte, error)
}

// Digest is the digest by which a version's content is stored: of its bundle, or of
// the manifest of its OCI artifact. It is empty when the content is inline.
func Digest(spec *fleet.AddOnVersionSpec) string {
	return spec.Image[strings.LastIndexByte(spec.Image, '@')+1:]
}

// Load returns the content of a version. When the spec names no manager, it is the
// one that fits the files.
func Load(ctx context.Context, bundles Bundles, spec *fleet.AddOnVersionSpec) (*catalog.Content, error) {
	digest := Digest(spec)
	if digest == "" {
		return Inline(spec.Manager, spec.Manifests)
	}
	data, err := bundles.Bundle(ctx, digest)
	if err != nil {
		return nil, fmt.Errorf("%w: bundle %s: %w", ErrStore, digest, err)
	}
	if strings.Contains(spec.Image, "@") {
		layer, err := archive.Layer(data)
		if err != nil {
			return nil, err
		}
		if data, err = bundles.Bundle(ctx, layer.Digest); err != nil {
			return nil, fmt.Errorf("%w: layer %s: %w", ErrStore, layer.Digest, err)
		}
	}
	return Read(spec.Manager, data)
}

// Inline is the content of manifests that are part of the version itself. Their
// strings may be templates.
func Inline(manager string, manifests []runtime.RawExtension) (*catalog.Content, error) {
	if manager != "" && manager != fleet.ManagerManifests {
		return nil, fmt.Errorf("manager %s: manifests given inline need manager %s", manager, fleet.ManagerManifests)
	}
	if len(manifests) == 0 {
		return nil, errors.New("no content: set image or manifests")
	}
	hash := sha256.New()
	c := &catalog.Content{Manager: fleet.ManagerManifests}
	seen := Seen{}
	for i := range manifests {
		where := fmt.Sprintf("manifests[%d]", i)
		raw := manifests[i].Raw
		hash.Write(raw)
		hash.Write([]byte("\n"))
		found, err := decodeJSON(where, 0, raw)
		if err != nil {
			return nil, err
		}
		for _, o := range found {
			if err := seen.Add(o); err != nil {
				return nil, err
			}
			c.Objects = append(c.Objects, o.Unstructured)
		}
	}
	c.Digest = "inline:" + hex.EncodeToString(hash.Sum(nil))
	return c, nil
}

// Read reads an archive, or a bundle of one JSON object a line. An empty manager is
// detected.
func Read(manager string, data []byte) (*catalog.Content, error) {
	sum := sha256.Sum256(data)
	c := &catalog.Content{Digest: "sha256:" + hex.EncodeToString(sum[:])}
	if archive.IsTar(data) || archive.IsGzip(data) {
		files, err := archive.Read(data, archive.Limits{})
		if err != nil {
			return nil, err
		}
		if archive.IsGzip(data) {
			files = archive.Unwrap(files)
		}
		if c.Files, err = unpackCharts(files); err != nil {
			return nil, err
		}
	} else {
		if !bytes.HasPrefix(bytes.TrimLeft(data, " \t\r\n"), []byte("{")) {
			return nil, errors.New("neither an archive nor one JSON object a line")
		}
		c.Files = archive.Files{BundleFile: data}
	}
	found := Manager(c.Files)
	c.Manager = manager
	if manager == "" {
		c.Manager = found
	}
	c.Digest += "/" + c.Manager
	return c, check(c)
}

// Manager tells which manager files are for.
func Manager(files archive.Files) string {
	if _, ok := files["Chart.yaml"]; ok {
		return fleet.ManagerHelm
	}
	if Kustomization(files, ".") != "" {
		return fleet.ManagerKustomize
	}
	return fleet.ManagerManifests
}

// Kustomization returns the path of the kustomization file of a folder, or "".
func Kustomization(files archive.Files, dir string) string {
	for _, name := range []string{"kustomization.yaml", "kustomization.yml", "Kustomization"} {
		for _, suffix := range []string{"", ".tmpl"} {
			if p := path.Join(dir, name+suffix); files[p] != nil {
				return p
			}
		}
	}
	return ""
}

// check says what is missing or broken in the files of a manager.
func check(c *catalog.Content) error {
	switch c.Manager {
	case fleet.ManagerHelm:
		if c.Files["Chart.yaml"] == nil {
			return errors.New("manager helm: there is no Chart.yaml at the top")
		}
		return nil
	case fleet.ManagerKustomize:
		if Kustomization(c.Files, ".") == "" {
			return errors.New("manager kustomize: there is no kustomization.yaml at the top")
		}
		return nil
	case fleet.ManagerManifests:
	default:
		return fmt.Errorf("manager %q: want %s, %s or %s", c.Manager, fleet.ManagerManifests, fleet.ManagerKustomize, fleet.ManagerHelm)
	}
	seen, any := Seen{}, false
	for _, name := range Names(c.Files) {
		if strings.HasSuffix(name, ".tmpl") {
			any = true
			continue
		}
		found, err := Decode(name, c.Files[name])
		if err != nil {
			return err
		}
		for _, o := range found {
			any = true
			if err := seen.Add(o); err != nil {
				return err
			}
		}
	}
	if !any {
		return errors.New("no manifests in it: files end in .yaml, .yml, .json or .tmpl")
	}
	return nil
}

// Names are the files that hold manifests, sorted.
func Names(files archive.Files) []string {
	var names []string
	for name := range files {
		if IsManifest(name) || strings.HasSuffix(name, ".tmpl") {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// IsManifest says whether a file holds manifests by its name.
func IsManifest(name string) bool {
	switch path.Ext(name) {
	case ".yaml", ".yml", ".json", ".ndjson":
		return true
	}
	return false
}

// unpackCharts puts the files of packed subcharts where their archives are, so that
// the limits hold for all together and nothing unpacks behind our back.
func unpackCharts(files archive.Files) (archive.Files, error) {
	if files["Chart.yaml"] == nil {
		return files, nil
	}
	limits := archive.Limits{Files: 10_000, Total: 64 << 20}
	for range 8 { // charts within charts
		var packed []string
		for name := range files {
			if strings.HasSuffix(name, ".tgz") && path.Base(path.Dir(name)) == "charts" {
				packed = append(packed, name)
			}
		}
		if len(packed) == 0 {
			return files, nil
		}
		slices.Sort(packed)
		for _, name := range packed {
			inside, err := archive.Read(files[name], limits)
			if err != nil {
				return nil, &Error{File: name, Err: err}
			}
			delete(files, name)
			dir := strings.TrimSuffix(name, ".tgz")
			for p, data := range archive.Unwrap(inside) {
				limits.Total -= int64(len(data))
				limits.Files--
				files[path.Join(dir, p)] = data
			}
			if limits.Total <= 0 || limits.Files <= 0 {
				return nil, &Error{File: name, Err: errors.New("the packed charts unpack to more than is allowed")}
			}
		}
	}
	return nil, errors.New("charts are packed within charts more than 8 deep")
}

// Seen finds objects that are there twice.
type Seen map[string]string

// Add takes in an object, or says where it was before.
func (s Seen) Add(o Object) error {
	key := Key(o.Unstructured)
	if first, dup := s[key]; dup {
		return &Error{File: o.File, Line: o.Line, Err: fmt.Errorf("%s is there twice, first in %s", Name(o.Unstructured), first)}
	}
	s[key] = o.where()
	return nil
}

// Key is what an object is the same as.
func Key(u *unstructured.Unstructured) string {
	gk := u.GroupVersionKind().GroupKind()
	return strings.Join([]string{gk.Group, gk.Kind, u.GetNamespace(), u.GetName()}, "\x00")
}

// Name is an object for people: Deployment shop/web.
func Name(u *unstructured.Unstructured) string {
	if ns := u.GetNamespace(); ns != "" {
		return u.GetKind() + " " + ns + "/" + u.GetName()
	}
	return u.GetKind() + " " + u.GetName()
}
