// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package hub

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"

	"github.com/drover-io/drover/hub/api"
	"github.com/drover-io/drover/hub/catalog/config"
	"github.com/drover-io/drover/hub/catalog/oci"
	"github.com/drover-io/drover/hub/catalog/publish"
	"github.com/drover-io/drover/hub/catalog/render"
	"github.com/drover-io/drover/hub/catalog/revision"
	"github.com/drover-io/drover/hub/content"
	"github.com/drover-io/drover/hub/registry"
	"github.com/drover-io/drover/hub/store"
	"github.com/drover-io/drover/shared/apis/addon"
	"github.com/drover-io/drover/shared/apis/fleet"
)

// newPublisher makes what takes versions of addons in.
func newPublisher(p *parts, credentials string, renderer *render.Renderer) *publish.Publisher {
	return publish.New(publish.Config{
		Store: p.store, Bundles: p.content, Renderer: renderer, Log: p.log.Named("catalog"),
		Registry: oci.New(oci.Config{Bundles: blobs{p.content}, Credentials: credentials}),
	})
}

// blobs adapts the content store to what pulls artifacts.
type blobs struct{ content *content.Store }

func (b blobs) Bundle(ctx context.Context, digest string) ([]byte, error) {
	return b.content.Bundle(ctx, digest)
}

func (b blobs) Size(ctx context.Context, digest string) (int64, error) {
	return b.content.Size(ctx, digest)
}

func (b blobs) Store(ctx context.Context, data []byte, files int) error {
	_, err := b.content.PutBlob(ctx, data, files)
	return err
}

// catalogStore stores versions of addons together with what they change besides.
type catalogStore struct {
	registry.Store
	publisher *publish.Publisher
}

func (s catalogStore) Create(ctx context.Context, key store.Key, data []byte) (uint64, error) {
	if key.Resource == fleet.ResourceAddOnVersions {
		return s.publisher.Create(ctx, key, data)
	}
	return s.Store.Create(ctx, key, data)
}

func (s catalogStore) Update(ctx context.Context, key store.Key, data []byte, revision uint64) (uint64, error) {
	if key.Resource == fleet.ResourceAddOnVersions {
		return s.publisher.Update(ctx, key, data, revision)
	}
	return s.Store.Update(ctx, key, data, revision)
}

// withCatalog adds the rules of the catalog to the hooks.
func withCatalog(p *publish.Publisher, h *revision.History, base map[string]api.Hook) map[string]api.Hook {
	base[fleet.ResourceAddOnVersions] = hookFunc(func(ctx context.Context, r *api.Admission) error {
		switch r.Operation {
		case api.UpdateStatus:
			return hubsOwn("addonversions", "status")
		case api.Delete:
			return p.AdmitDelete(ctx, nameIn(r.Old))
		case api.Update:
			if at(r.Object, "metadata", "deletionTimestamp") != nil {
				return nil
			}
		}
		if err := p.Admit(ctx, r.Object, r.Old, r.Warn); err != nil || r.DryRun {
			return err
		}
		h.Expect(addon.Config{
			ConfigGroupResource: config.VersionKind(), ConfigReferent: addon.ConfigReferent{Name: nameIn(r.Object)},
		}, r.Object, r.User.GetName())
		return nil
	})
	return base
}

// bundlesInUse are the digests that works, versions of addons and their revisions name.
func bundlesInUse(ctx context.Context, p *parts) (map[string]bool, error) {
	used, err := p.delivery.BundlesInUse(ctx)
	if err != nil {
		return nil, err
	}
	return used, p.publisher.InUse(ctx, used)
}

// shelf answers what people ask about versions beside the API.
type shelf struct {
	*inspector
	store     *store.Store
	publisher *publish.Publisher
}

// addCatalog adds what concerns versions of addons and is no kind of the API.
func addCatalog(mux *http.ServeMux, p *parts, authn authenticator.Request, authz authorizer.UnconditionalAuthorizer) {
	s := &shelf{&inspector{p: p, authn: authn, authz: authz, log: p.log}, p.store, p.publisher}
	mux.Handle("GET "+fleet.PathAddOnContent+"/{name}", s.serve(s.content))
	mux.Handle("GET "+fleet.PathAddOnDiff, s.serve(s.compare))
}

// version returns an AddOnVersion to who may read it.
func (s *shelf) version(ctx context.Context, who user.Info, name string) (*fleet.AddOnVersion, error) {
	resource := schema.GroupResource{Group: fleet.Group, Resource: "addonversions"}
	if name == "" {
		return nil, apierrors.NewBadRequest("name an AddOnVersion")
	}
	decision, _, err := s.authz.Authorize(ctx, authorizer.AttributesRecord{
		User: who, Verb: "get", APIGroup: fleet.Group, APIVersion: fleet.Version, Resource: resource.Resource, Name: name, ResourceRequest: true,
	})
	if err != nil {
		return nil, fmt.Errorf("authorize get addonversions: %w", err)
	}
	if decision != authorizer.DecisionAllow {
		return nil, apierrors.NewForbidden(resource, name, fmt.Errorf("user %q cannot get addonversions", who.GetName()))
	}
	v, err := store.Of[fleet.AddOnVersion](s.store, fleet.ResourceAddOnVersions).Get(ctx, "", name)
	if errors.Is(err, store.ErrNotFound) || errors.Is(err, store.ErrInvalid) {
		return nil, apierrors.NewNotFound(resource, name)
	}
	return v, err
}

func (s *shelf) content(r *http.Request, who user.Info) (any, error) {
	v, err := s.version(r.Context(), who, r.PathValue("name"))
	if err != nil {
		return nil, err
	}
	return s.publisher.Show(r.Context(), v)
}

func (s *shelf) compare(r *http.Request, who user.Info) (any, error) {
	from, err := s.version(r.Context(), who, r.URL.Query().Get("from"))
	if err != nil {
		return nil, err
	}
	to, err := s.version(r.Context(), who, r.URL.Query().Get("to"))
	if err != nil {
		return nil, err
	}
	d, err := s.publisher.Diff(r.Context(), from, to)
	if err != nil && r.Context().Err() == nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	return d, err
}
