// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package apply

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/drover-io/drover/agent/apply/manifest"
	"github.com/drover-io/drover/shared/apis/fleet"
	"github.com/drover-io/drover/shared/apis/work"
	"github.com/drover-io/drover/shared/wire"
)

// record is what survives a restart of one item.
type record struct {
	Name       string `json:"name"`
	UID        string `json:"uid"`
	Generation int64  `json:"generation"`
	// Digest is the content whose application began last. Complete says that all
	// of it was applied and all that it no longer names was pruned.
	Digest   string `json:"digest"`
	Complete bool   `json:"complete,omitempty"`
	// LastGood is the content that was last seen complete and Current.
	LastGood string `json:"lastGood,omitempty"`
	// Delete is the delete option of content DeleteDigest.
	Delete       work.DeleteOption `json:"delete"`
	DeleteDigest string            `json:"deleteDigest,omitempty"`
	// Inventory is a superset of what the item has on the cluster: while content
	// is being applied, the union of the old and the new.
	Inventory []object `json:"inventory,omitempty"`
	// Dropped is what the content of Complete no longer names and what waits for
	// the word to be deleted. Leaving is what was decided to be deleted, and may
	// still exist; nobody owns it. Released are adopted objects that the item gave
	// up and that stay: whoever names them next learns here that they are not ours
	// to delete, which the object itself does not tell any more.
	Dropped  []object `json:"dropped,omitempty"`
	Leaving  []object `json:"leaving,omitempty"`
	Released []object `json:"released,omitempty"`
	// Total is the number of manifests of content Digest, when Complete. Manifests
	// has those that are not in the inventory; of an older agent, all.
	Total     int                   `json:"total,omitempty"`
	Manifests []wire.ManifestReport `json:"manifests,omitempty"`
	// Rules are what is to be read from the status, by ordinal.
	Rules map[int]manifest.Rules `json:"rules,omitempty"`
	// Health are the rules of the addon in content Digest, and AppliedAt is when
	// that was first applied whole.
	Health    []fleet.HealthRule `json:"health,omitempty"`
	AppliedAt time.Time          `json:"appliedAt,omitzero"`
	// Bundles of Digest and LastGood.
	Bundle         string `json:"bundle,omitempty"`
	LastGoodBundle string `json:"lastGoodBundle,omitempty"`
	// Approved says that the removal of the whole item was approved.
	Approved bool `json:"approved,omitempty"`
	// Deleted stays until the hub drops the tombstone.
	Deleted bool `json:"deleted,omitempty"`
}

// object is an entry of an inventory.
type object struct {
	Group   string `json:"group,omitempty"`
	Version string `json:"version"`
	Kind    string `json:"kind"`
	// Resource is empty while the kind is not known to the cluster yet.
	Resource  string `json:"resource,omitempty"`
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name"`
	// UID is empty for an object that is about to be created: it is ours only if
	// our field manager is on it.
	UID string `json:"uid,omitempty"`
	// Adopted objects existed before, made by somebody else: they are never deleted.
	Adopted bool `json:"adopted,omitempty"`
	// Wave in which it is applied.
	Wave int `json:"wave,omitempty"`
	// Ordinal of its manifest plus one; zero when there is none.
	Ordinal int `json:"ordinal,omitempty"`
	// Manager is the field manager, when it is not the engine's own.
	Manager string `json:"manager,omitempty"`
	// Planned objects of complete content are missing or somebody else's, and are to
	// be applied again.
	Planned bool `json:"planned,omitempty"`
	// Fields names the set of fields that the last apply owned; empty when the
	// object is not written.
	Fields string `json:"fields,omitempty"`
	// Protected by the content that named it last, beside what its kind says.
	Protected bool `json:"protected,omitempty"`
}

func (o object) identity() manifest.Identity {
	return manifest.Identity{Group: o.Group, Kind: o.Kind, Namespace: o.Namespace, Name: o.Name}
}

func (o object) class() manifest.Class { return o.identity().Class() }

func (o object) protected() bool { return o.Protected || o.identity().Protected() }

// owned is all that the item has a claim to.
func (r *record) owned() []object { return slices.Concat(r.Inventory, r.Dropped) }

// held is everything the record knows of, by identity.
func (r *record) held() map[manifest.Identity]object {
	held := make(map[manifest.Identity]object, len(r.Inventory)+len(r.Dropped)+len(r.Leaving))
	for _, o := range slices.Concat(r.Leaving, r.Dropped, r.Inventory) {
		held[o.identity()] = o
	}
	return held
}

// without returns the objects that are not among others, by identity.
func without(objects, others []object) []object {
	if len(objects) == 0 || len(others) == 0 {
		return objects
	}
	ids := make(map[manifest.Identity]bool, len(others))
	for _, o := range others {
		ids[o.identity()] = true
	}
	var left []object
	for _, o := range objects {
		if !ids[o.identity()] {
			left = append(left, o)
		}
	}
	return left
}

func decodeRecord(body []byte) (record, error) {
	var rec record
	if err := json.Unmarshal(body, &rec); err != nil {
		return record{}, err
	}
	if rec.UID == "" {
		return record{}, errors.New("no uid")
	}
	return rec, nil
}

// unite returns old with the entries of planned added or, for the same object,
// put in their place; sorted.
func unite(old, planned []object) []object {
	byID := make(map[manifest.Identity]object, len(old)+len(planned))
	for _, o := range old {
		byID[o.identity()] = o
	}
	for _, o := range planned {
		byID[o.identity()] = o
	}
	if len(byID) == 0 {
		return nil
	}
	united := make([]object, 0, len(byID))
	for _, o := range byID {
		united = append(united, o)
	}
	sortObjects(united)
	return united
}

// dropped returns what an inventory has and new content does not name, by
// identity or by UID: an object that moved to another API group is still the
// same object.
func dropped(inventory, named []object) []object {
	ids, uids := make(map[manifest.Identity]bool, len(named)), make(map[string]bool, len(named))
	for _, o := range named {
		ids[o.identity()], uids[o.UID] = true, true
	}
	var gone []object
	for _, o := range inventory {
		if !ids[o.identity()] && (o.UID == "" || !uids[o.UID]) {
			gone = append(gone, o)
		}
	}
	return gone
}

// sortObjects orders by wave, class and name: the order in which objects are
// applied, and from the end that in which they are removed.
func sortObjects(objects []object) {
	slices.SortFunc(objects, func(a, b object) int {
		return cmp.Or(
			cmp.Compare(a.Wave, b.Wave), cmp.Compare(a.class(), b.class()),
			cmp.Compare(a.Group, b.Group), cmp.Compare(a.Kind, b.Kind),
			cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name),
		)
	})
}

// fate is what removal does with one object of an inventory.
type fate int

const (
	fateGone    fate = iota // nothing to do: it does not exist, or is not ours any more
	fateRelease             // stays on the cluster, owned by nobody or by another item
	fateDelete              // delete it, if it still has the UID of the observation
	fateWait                // being deleted already
)

// judge decides about one object that an item gives up. owner is the name of
// another item that names the object, empty for none.
func judge(o object, live *observation, option work.DeleteOption, owner string) fate {
	switch {
	case live == nil:
		return fateGone
	case o.UID != "" && o.UID != live.uid:
		return fateGone
	case o.UID == "" && !live.ours:
		return fateGone
	case o.Adopted, owner != "", manifest.Orphaned(option, o.identity(), o.Resource), o.identity().Undeletable():
		return fateRelease
	case !live.terminating.IsZero():
		return fateWait
	default:
		return fateDelete
	}
}

func encodeRecord(rec record) ([]byte, error) {
	body, err := json.Marshal(rec)
	if err != nil {
		return nil, fmt.Errorf("encode record of work %s: %w", rec.Name, err)
	}
	return body, nil
}
