// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package apply

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"

	"golang.org/x/sync/errgroup"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/drover-io/drover/agent/apply/manifest"
)

const (
	listFrom = 12  // so many objects of one kind and namespace are worth a list
	listPage = 250 // objects a page: a page is decoded as a whole
)

// sight is what a survey saw of one object.
type sight struct {
	seen *observation // nil when the object does not exist
	err  error        // it could not be read
}

// survey reads the metadata of many objects with few requests: many objects of
// one kind and namespace by lists, the others one by one. The error says that
// the API server does not answer.
func (c *cluster) survey(ctx context.Context, objects []object) ([]sight, error) {
	type place struct{ group, version, resource, namespace string }
	places := make(map[place][]int)
	for i, o := range objects {
		p := place{o.Group, o.Version, o.Resource, o.Namespace}
		places[p] = append(places[p], i)
	}
	sights := make([]sight, len(objects))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(parallelRequests)
	for _, members := range places {
		left := members
		if len(members) >= listFrom {
			var err error
			if left, err = c.surveyList(ctx, objects, members, sights); err != nil {
				return nil, firstOf(group.Wait(), err)
			}
		}
		for _, i := range left {
			group.Go(func() error {
				seen, err := c.observe(ctx, objects[i])
				if err != nil && unreachable(err) {
					return err
				}
				sights[i] = sight{seen, err}
				return nil
			})
		}
	}
	return sights, group.Wait()
}

func firstOf(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// surveyList reads the collection in which the members are, and returns those it
// could say nothing about: the collection is much larger than what is asked for,
// or may not be listed.
func (c *cluster) surveyList(ctx context.Context, objects []object, members []int, sights []sight) (left []int, err error) {
	names := make(map[string]int, len(members))
	for _, i := range members {
		names[objects[i].Name] = i
	}
	token := ""
	for pages := 2 + 2*len(members)/listPage; ; pages-- {
		if pages == 0 {
			break
		}
		next, err := c.listPage(ctx, objects[members[0]], token, func(meta *metav1.PartialObjectMetadata) {
			if i, asked := names[meta.Name]; asked {
				sights[i].seen = c.observed(objects[i], meta)
				delete(names, meta.Name)
			}
		})
		switch {
		case err == nil && next == "":
			return nil, nil // who was not seen does not exist
		case gone(err):
			c.noteKindGone(objects[members[0]], err)
			return nil, nil
		case err != nil && unreachable(err):
			return nil, err
		case apierrors.IsForbidden(err), apierrors.IsResourceExpired(err), apierrors.IsMethodNotSupported(err):
			next = ""
		case err != nil:
			for _, i := range names {
				sights[i].err = err
			}
			return nil, nil
		}
		if token = next; token == "" {
			break
		}
	}
	for _, i := range names {
		left = append(left, i)
	}
	return left, nil
}

func (c *cluster) listPage(ctx context.Context, o object, token string, each func(*metav1.PartialObjectMetadata)) (next string, err error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	request := c.rest.Get().AbsPath(collectionPath(o)...).SetHeader("Accept", acceptMetadataList).Param("limit", strconv.Itoa(listPage))
	if token != "" {
		request.Param("continue", token)
	}
	raw, err := request.Do(ctx).Raw()
	if err != nil {
		return "", err
	}
	var list metav1.PartialObjectMetadataList
	if err := json.Unmarshal(raw, &list); err != nil {
		return "", &manifest.Error{Message: fmt.Sprintf("decode list of %s: %v", o.Resource, err)}
	}
	for i := range list.Items {
		each(&list.Items[i])
	}
	return list.Continue, nil
}
