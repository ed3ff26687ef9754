// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package openapi

import (
	"maps"
	"net/http"
	"slices"

	"k8s.io/kube-openapi/pkg/spec3"
	"k8s.io/kube-openapi/pkg/validation/spec"

	"github.com/drover-io/drover/hub/api/kind"
)

// operation is one operation on a kind, in no version of OpenAPI.
type operation struct {
	path    string
	method  string
	action  string // value of x-kubernetes-action
	id      string
	summary string
	params  []param
	body    string   // model, empty for none
	consume []string // media types of body
	result  string   // model
	inPath  []string // names of path parameters
}

type param struct {
	name, kind, text string
}

func fieldParams() []param {
	return []param{
		{"dryRun", "string", "All: check everything, store nothing."},
		{"fieldManager", "string", "Name of the one who owns the fields that are set."},
		{"fieldValidation", "string", "What to do about unknown and duplicate fields: Strict, Warn or Ignore."},
	}
}

func listParams() []param {
	return []param{
		{"labelSelector", "string", "Only objects whose labels match."},
		{"fieldSelector", "string", "Only objects whose fields match."},
		{"limit", "integer", "Largest number of objects of one answer."},
		{"continue", "string", "Token of the former answer."},
		{"resourceVersion", "string", "State to answer from."},
		{"resourceVersionMatch", "string", "How to take resourceVersion."},
		{"watch", "boolean", "Follow changes."},
		{"allowWatchBookmarks", "boolean", "Send bookmarks."},
		{"sendInitialEvents", "boolean", "Start a watch with what is there."},
		{"timeoutSeconds", "integer", "End a watch after so many seconds."},
	}
}

// operations lists what can be done with a kind.
func operations(k *kind.Kind, verbs []string) []operation {
	root := "/" + GroupPath(k)
	collection := root + "/" + k.Resource
	var in []string
	var ops []operation
	can := func(verb string) bool { return slices.Contains(verbs, verb) }
	model, list := k.ModelName(), k.ListModelName()
	if k.Namespaced {
		if can("list") {
			ops = append(ops, operation{path: collection, method: http.MethodGet, action: "list", id: "list" + k.GVK.Kind + "ForAllNamespaces", summary: "list objects of kind " + k.GVK.Kind, params: listParams(), result: list})
		}
		collection = root + "/namespaces/{namespace}/" + k.Resource
		in = []string{"namespace"}
	}
	item, named := collection+"/{name}", append(slices.Clone(in), "name")
	objects := []string{"application/json", "application/yaml"}
	patches := []string{"application/json-patch+json", "application/merge-patch+json", "application/apply-patch+yaml"}
	add := func(verb string, op operation) {
		if can(verb) {
			op.id += k.GVK.Kind
			ops = append(ops, op)
		}
	}
	add("list", operation{path: collection, method: http.MethodGet, action: "list", id: "list", summary: "list objects of kind " + k.GVK.Kind, params: listParams(), result: list, inPath: in})
	add("create", operation{path: collection, method: http.MethodPost, action: "post", id: "create", summary: "create a " + k.GVK.Kind, params: fieldParams(), body: model, consume: objects, result: model, inPath: in})
	add("deletecollection", operation{path: collection, method: http.MethodDelete, action: "deletecollection", id: "deleteCollection", summary: "delete all objects of kind " + k.GVK.Kind + " that match", params: listParams(), result: kind.ModelStatus, inPath: in})
	force := param{"force", "boolean", "Of an apply: take fields over from other managers."}
	paths := []string{item}
	if k.Status {
		paths = append(paths, item+"/status")
	}
	for i, path := range paths {
		suffix := []string{"", "Status"}[i]
		add("get", operation{path: path, method: http.MethodGet, action: "get", id: "read" + suffix, summary: "read the " + k.GVK.Kind, result: model, inPath: named})
		add("update", operation{path: path, method: http.MethodPut, action: "put", id: "replace" + suffix, summary: "replace the " + k.GVK.Kind, params: fieldParams(), body: model, consume: objects, result: model, inPath: named})
		add("patch", operation{path: path, method: http.MethodPatch, action: "patch", id: "patch" + suffix, summary: "change parts of the " + k.GVK.Kind, params: append(fieldParams(), force), body: modelPatch, consume: patches, result: model, inPath: named})
	}
	add("delete", operation{path: item, method: http.MethodDelete, action: "delete", id: "delete", summary: "delete the " + k.GVK.Kind, params: fieldParams()[:1], body: kind.ModelDeleteOptions, consume: objects, result: kind.ModelStatus, inPath: named})
	return ops
}

const modelPatch = "io.k8s.apimachinery.pkg.apis.meta.v1.Patch"

func patchSchema() *spec.Schema {
	return new(spec.Schema).Typed("object", "").WithDescription("A patch in one of the accepted formats.")
}

func info(version string) *spec.Info {
	return &spec.Info{InfoProps: spec.InfoProps{Title: "Drover", Version: version}}
}

func extensions(k *kind.Kind, op operation) spec.Extensions {
	return spec.Extensions{
		"x-kubernetes-action":             op.action,
		"x-kubernetes-group-version-kind": map[string]any{"group": k.GVK.Group, "version": k.GVK.Version, "kind": k.GVK.Kind},
	}
}

func buildV3(kinds []*kind.Kind, verbs func(*kind.Kind) []string, version string) (*spec3.OpenAPI, error) {
	doc := &spec3.OpenAPI{
		Version:    "3.0.0",
		Info:       info(version),
		Paths:      &spec3.Paths{Paths: map[string]*spec3.Path{}},
		Components: &spec3.Components{Schemas: kind.MetaSchemas(kind.RefV3)},
	}
	doc.Components.Schemas[modelPatch] = patchSchema()
	for _, k := range kinds {
		models, err := k.Schemas(false)
		if err != nil {
			return nil, err
		}
		maps.Copy(doc.Components.Schemas, models)
		for _, op := range operations(k, verbs(k)) {
			p := doc.Paths.Paths[op.path]
			if p == nil {
				p = &spec3.Path{}
				doc.Paths.Paths[op.path] = p
				for _, name := range op.inPath {
					p.Parameters = append(p.Parameters, &spec3.Parameter{ParameterProps: spec3.ParameterProps{Name: name, In: "path", Required: true, Schema: spec.StringProperty()}})
				}
			}
			o := operationV3(op)
			o.Extensions = extensions(k, op)
			o.Tags = []string{GroupPath(k)}
			switch op.method {
			case http.MethodGet:
				p.Get = o
			case http.MethodPost:
				p.Post = o
			case http.MethodPut:
				p.Put = o
			case http.MethodPatch:
				p.Patch = o
			case http.MethodDelete:
				p.Delete = o
			}
		}
	}
	return doc, nil
}

func operationV3(op operation) *spec3.Operation {
	content := func(model string, media ...string) map[string]*spec3.MediaType {
		c := map[string]*spec3.MediaType{}
		for _, m := range media {
			c[m] = &spec3.MediaType{MediaTypeProps: spec3.MediaTypeProps{Schema: spec.RefSchema(kind.RefV3 + model)}}
		}
		return c
	}
	o := &spec3.Operation{OperationProps: spec3.OperationProps{
		OperationId: op.id, Description: op.summary,
		Responses: &spec3.Responses{ResponsesProps: spec3.ResponsesProps{StatusCodeResponses: map[int]*spec3.Response{
			http.StatusOK: {ResponseProps: spec3.ResponseProps{Description: "OK", Content: content(op.result, "application/json", "application/yaml")}},
		}}},
	}}
	for _, p := range op.params {
		schema := new(spec.Schema).Typed(p.kind, "")
		o.Parameters = append(o.Parameters, &spec3.Parameter{ParameterProps: spec3.ParameterProps{Name: p.name, In: "query", Description: p.text, Schema: schema}})
	}
	if op.body != "" {
		o.RequestBody = &spec3.RequestBody{RequestBodyProps: spec3.RequestBodyProps{Content: content(op.body, op.consume...), Required: op.method != http.MethodDelete}}
	}
	return o
}

func buildV2(kinds []*kind.Kind, verbs func(*kind.Kind) []string, version string) (*spec.Swagger, error) {
	definitions := spec.Definitions{}
	put := func(models map[string]*spec.Schema) {
		for name, s := range models {
			definitions[name] = *s
		}
	}
	put(kind.MetaSchemas(kind.RefV2))
	definitions[modelPatch] = *patchSchema()
	paths := map[string]spec.PathItem{}
	for _, k := range kinds {
		models, err := k.Schemas(true)
		if err != nil {
			return nil, err
		}
		put(models)
		for _, op := range operations(k, verbs(k)) {
			item, seen := paths[op.path]
			if !seen {
				for _, name := range op.inPath {
					item.Parameters = append(item.Parameters, spec.Parameter{ParamProps: spec.ParamProps{Name: name, In: "path", Required: true}, SimpleSchema: spec.SimpleSchema{Type: "string"}})
				}
			}
			o := operationV2(op)
			o.Extensions = extensions(k, op)
			switch op.method {
			case http.MethodGet:
				item.Get = o
			case http.MethodPost:
				item.Post = o
			case http.MethodPut:
				item.Put = o
			case http.MethodPatch:
				item.Patch = o
			case http.MethodDelete:
				item.Delete = o
			}
			paths[op.path] = item
		}
	}
	return &spec.Swagger{SwaggerProps: spec.SwaggerProps{
		Swagger: "2.0", Info: info(version), Paths: &spec.Paths{Paths: paths}, Definitions: definitions,
	}}, nil
}

func operationV2(op operation) *spec.Operation {
	o := &spec.Operation{OperationProps: spec.OperationProps{
		ID: op.id, Description: op.summary, Consumes: op.consume, Produces: []string{"application/json", "application/yaml"},
		Responses: &spec.Responses{ResponsesProps: spec.ResponsesProps{StatusCodeResponses: map[int]spec.Response{
			http.StatusOK: {ResponseProps: spec.ResponseProps{Description: "OK", Schema: spec.RefSchema(kind.RefV2 + op.result)}},
		}}},
	}}
	for _, p := range op.params {
		o.Parameters = append(o.Parameters, spec.Parameter{ParamProps: spec.ParamProps{Name: p.name, In: "query", Description: p.text}, SimpleSchema: spec.SimpleSchema{Type: p.kind}})
	}
	if op.body != "" {
		o.Parameters = append(o.Parameters, spec.Parameter{ParamProps: spec.ParamProps{Name: "body", In: "body", Required: op.method != http.MethodDelete, Schema: spec.RefSchema(kind.RefV2 + op.body)}})
	}
	return o
}
