// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

// Package revision keeps what AddOnVersions and the objects that configure addons
// have said, as ConfigRevisions: each distinct content of an object once, with a
// number, its hash, who wrote it first and when.
//
// A number belongs to a content for ever. An object that comes back to a former
// content has the number of that one again, so that a number that something names
// never comes to mean something else. What is current is what the object says now,
// not the highest number.
package revision

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	kjson "k8s.io/apimachinery/pkg/util/json"

	"github.com/drover-io/drover/hub/catalog/config"
	"github.com/drover-io/drover/hub/store"
	"github.com/drover-io/drover/shared/apis/addon"
	"github.com/drover-io/drover/shared/apis/fleet"
)

// ErrNotFound: there is no such revision, or not any more.
var ErrNotFound = errors.New("no such revision of the configuration")

// History reads and writes ConfigRevisions. It is safe for concurrent use; one hub
// has one.
type History struct {
	store     *store.Store
	revisions store.Objects[fleet.ConfigRevision, *fleet.ConfigRevision]

	// writing keeps two contents from getting one number.
	writing sync.Mutex
	authors authors
}

// NewHistory returns the history in a store.
func NewHistory(s *store.Store) *History {
	return &History{
		store: s, revisions: store.Of[fleet.ConfigRevision](s, fleet.ResourceConfigRevisions),
		authors: authors{by: map[string]string{}},
	}
}

// Record keeps the content of an object, and returns its revision: the one that
// there is already, if any. by is the user whose write it was; if that is empty, who
// was announced by Expect.
func (h *History) Record(ctx context.Context, ref addon.Config, obj map[string]any, by string) (*fleet.ConfigRevision, error) {
	hash, err := config.Hash(obj)
	if err != nil {
		return nil, fmt.Errorf("record %s: %w", Name(ref), err)
	}
	name := objectName(ref, hash)
	if r, err := h.cached(ref, hash); err == nil {
		return r, nil
	}
	content, err := config.Content(obj)
	if err != nil {
		return nil, fmt.Errorf("record %s: %w", Name(ref), err)
	}
	data, err := json.Marshal(content)
	if err != nil {
		return nil, fmt.Errorf("record %s: %w", Name(ref), err)
	}
	h.writing.Lock()
	defer h.writing.Unlock()
	list, err := h.List(ctx, ref)
	if err != nil {
		return nil, err
	}
	number := int64(1)
	for _, r := range list {
		if r.Spec.Hash == hash {
			return r, nil
		}
		number = max(number, r.Spec.Revision+1)
	}
	r, err := h.revisions.Create(ctx, &fleet.ConfigRevision{
		TypeMeta:   metav1.TypeMeta{APIVersion: fleet.Group + "/" + fleet.Version, Kind: fleet.KindConfigRevision},
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: fleet.ConfigRevisionSpec{
			Group: ref.Group, Resource: ref.Resource, Namespace: ref.Namespace, Name: ref.Name,
			Revision: number, Hash: hash, By: cmp.Or(by, h.authors.of(name)), Content: runtime.RawExtension{Raw: data},
		},
	})
	if err != nil {
		return nil, fmt.Errorf("record %s: %w", Name(ref), err)
	}
	return r, nil
}

// Expect announces that a user is about to write an object, so that its revision
// can say who it was. Nothing is stored: the write may still be refused.
func (h *History) Expect(ref addon.Config, obj map[string]any, by string) {
	if hash, err := config.Hash(obj); err == nil {
		h.authors.expect(objectName(ref, hash), by)
	}
}

// List are the revisions of an object, the highest number first, with all that was
// acknowledged before.
func (h *History) List(ctx context.Context, ref addon.Config) ([]*fleet.ConfigRevision, error) {
	list, _, err := h.revisions.List(ctx, store.Selection{Prefix: prefix(ref)})
	if err != nil {
		return nil, fmt.Errorf("list revisions of %s: %w", Name(ref), err)
	}
	list = slices.DeleteFunc(list, func(r *fleet.ConfigRevision) bool { return refOf(r) != ref })
	newestFirst(list)
	return list, nil
}

func newestFirst(list []*fleet.ConfigRevision) {
	slices.SortFunc(list, func(a, b *fleet.ConfigRevision) int { return cmp.Compare(b.Spec.Revision, a.Spec.Revision) })
}

// ByHash is the revision of an object with that hash; ErrNotFound.
func (h *History) ByHash(ctx context.Context, ref addon.Config, hash string) (*fleet.ConfigRevision, error) {
	if r, err := h.cached(ref, hash); err == nil {
		return r, nil
	}
	r, err := h.revisions.Get(ctx, "", objectName(ref, hash))
	if errors.Is(err, store.ErrNotFound) || err == nil && (refOf(r) != ref || r.Spec.Hash != hash) {
		return nil, fmt.Errorf("%s with hash %.12s: %w", Name(ref), hash, ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("read revision of %s: %w", Name(ref), err)
	}
	return r, nil
}

func (h *History) cached(ref addon.Config, hash string) (*fleet.ConfigRevision, error) {
	r, err := h.revisions.Cached("", objectName(ref, hash))
	if err != nil {
		return nil, err
	}
	if refOf(r) != ref || r.Spec.Hash != hash {
		return nil, ErrNotFound
	}
	return r, nil
}

// ByNumber is the revision of an object with that number; ErrNotFound.
func (h *History) ByNumber(ctx context.Context, ref addon.Config, number int64) (*fleet.ConfigRevision, error) {
	list, err := h.List(ctx, ref)
	if err != nil {
		return nil, err
	}
	var have []string
	for _, r := range list {
		if r.Spec.Revision == number {
			return r, nil
		}
		have = append(have, fmt.Sprint(r.Spec.Revision))
	}
	return nil, fmt.Errorf("%s, revision %d (there are %s): %w", Name(ref), number, cmp.Or(strings.Join(have, ", "), "none"), ErrNotFound)
}

// Read decodes what an object said into the struct of its kind, without kind and
// metadata.
func Read(r *fleet.ConfigRevision, into any) error {
	if err := kjson.Unmarshal(r.Spec.Content.Raw, into); err != nil {
		return fmt.Errorf("read revision %d of %s: %w", r.Spec.Revision, Name(refOf(r)), err)
	}
	return nil
}

// Name is how an object is called in messages: addonconfigs edge/logging.
func Name(ref addon.Config) string {
	if ref.Namespace == "" {
		return ref.Resource + " " + ref.Name
	}
	return ref.Resource + " " + ref.Namespace + "/" + ref.Name
}

func refOf(r *fleet.ConfigRevision) addon.Config {
	s := &r.Spec
	return addon.Config{
		ConfigGroupResource: addon.ConfigGroupResource{Group: s.Group, Resource: s.Resource},
		ConfigReferent:      addon.ConfigReferent{Namespace: s.Namespace, Name: s.Name},
	}
}

// maxName is what of an object's name goes into the name of a revision.
const maxName = 200

// prefix is what the names of all revisions of an object begin with.
func prefix(ref addon.Config) string {
	sum := sha256.Sum256([]byte(ref.Group + "\x00" + ref.Resource + "\x00" + ref.Namespace + "\x00" + ref.Name))
	name := strings.TrimRight(ref.Name[:min(len(ref.Name), maxName)], ".-")
	return name + "-" + hex.EncodeToString(sum[:5]) + "-"
}

// objectName is the same for the same content of the same object.
func objectName(ref addon.Config, hash string) string {
	return prefix(ref) + hash[:min(len(hash), 16)]
}

// authors remembers who is about to write what, for a while.
type authors struct {
	mu    sync.Mutex
	by    map[string]string
	order []string
}

const maxAuthors = 1000

func (a *authors) expect(name, by string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if _, ok := a.by[name]; !ok {
		a.order = append(a.order, name)
	}
	a.by[name] = by
	if len(a.order) > maxAuthors {
		delete(a.by, a.order[0])
		a.order = a.order[1:]
	}
}

func (a *authors) of(name string) string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.by[name]
}
