// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"

	authenticationv1 "k8s.io/api/authentication/v1"
	authenticationv1beta1 "k8s.io/api/authentication/v1beta1"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer/protobuf"
	kjson "sigs.k8s.io/json"
	"sigs.k8s.io/yaml"
)

// maxBody is the size limit of a request's body in bytes.
const maxBody = 3 << 20

// readBody reads all of the body.
func (c *call) readBody() ([]byte, error) {
	data, err := io.ReadAll(http.MaxBytesReader(c.w, c.r.Body, maxBody))
	if err == nil {
		c.audit.body = data
		return data, nil
	}
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		return nil, err
	}
	return nil, badRequest("read the body: %v", err)
}

const (
	mediaJSON     = "application/json"
	mediaYAML     = "application/yaml"
	mediaProtobuf = "application/vnd.kubernetes.protobuf"
)

func (c *call) bodyType() string {
	header := c.r.Header.Get("Content-Type")
	if header == "" {
		return mediaJSON
	}
	media, _, err := mime.ParseMediaType(header)
	if err != nil {
		return header
	}
	return media
}

func unsupportedMedia(got string, want ...string) error {
	return statusError(http.StatusUnsupportedMediaType, metav1.StatusReasonUnsupportedMediaType,
		fmt.Sprintf("the body of the request was in an unknown format - accepted media types include: %s (got %q)", strings.Join(want, ", "), got))
}

// readObject reads an object of the kind from the body. Protobuf is read for
// the kinds that Kubernetes' typed clients send.
func (c *call) readObject(validation string) (map[string]any, error) {
	data, err := c.readBody()
	if err != nil {
		return nil, err
	}
	media := c.bodyType()
	if media == mediaProtobuf {
		typed, err := c.protobuf().decode(data)
		if err != nil {
			return nil, err
		}
		if data, err = json.Marshal(typed); err != nil {
			return nil, badRequest("decode protobuf: %v", err)
		}
		media = mediaJSON
	}
	if media != mediaJSON && media != mediaYAML {
		return nil, unsupportedMedia(media, mediaJSON, mediaYAML, mediaProtobuf)
	}
	return c.decodeObject(data, media == mediaYAML, validation)
}

// decodeObject decodes, prunes and checks that the object is what the path
// says. Unknown and duplicate fields are an error, warnings or nothing.
func (c *call) decodeObject(data []byte, isYAML bool, validation string) (map[string]any, error) {
	obj, strict, err := decode(data, isYAML)
	if err != nil {
		return nil, err
	}
	return obj, c.checkObject(obj, strict, validation)
}

// checkObject is the part of decodeObject after decoding; strict are the
// problems found so far.
func (c *call) checkObject(obj map[string]any, strict []string, validation string) error {
	if err := c.checkType(obj); err != nil {
		return err
	}
	if err := c.invalid(metaString(obj, "name"), c.res.Refused(obj)); err != nil {
		return err
	}
	unknown, err := c.res.Coerce(obj)
	if err != nil {
		return badRequest("%s: %v", c.res.GVK.Kind, err)
	}
	for _, path := range unknown {
		strict = append(strict, fmt.Sprintf("unknown field %q", path))
	}
	return c.strict(strict, validation)
}

// strict deals with unknown and duplicate fields.
func (c *call) strict(problems []string, validation string) error {
	if len(problems) == 0 || validation == metav1.FieldValidationIgnore {
		return nil
	}
	if validation == metav1.FieldValidationStrict {
		return badRequest("%s in version %q cannot be handled as a %s: strict decoding error: %s",
			c.res.GVK.Kind, c.res.GVK.Version, c.res.GVK.Kind, strings.Join(problems, ", "))
	}
	for _, p := range problems {
		c.warn(p)
	}
	return nil
}

// decode reads one JSON or YAML object; strict lists duplicate fields.
func decode(data []byte, isYAML bool) (obj map[string]any, strict []string, err error) {
	if isYAML {
		converted, err := yaml.YAMLToJSONStrict(data)
		if err != nil {
			var lax error
			if converted, lax = yaml.YAMLToJSON(data); lax != nil {
				return nil, nil, badRequest("the body is not YAML: %v", lax)
			}
			strict = append(strict, err.Error())
		}
		data = converted
	}
	problems, err := kjson.UnmarshalStrict(data, &obj)
	if err != nil {
		return nil, nil, badRequest("the body is not a JSON object: %v", err)
	}
	if obj == nil {
		return nil, nil, badRequest("the body is empty: want a JSON or YAML object")
	}
	for _, p := range problems {
		strict = append(strict, p.Error())
	}
	return obj, strict, nil
}

// decodeStored reads an object as the store holds it, in the version asked for.
func (r *resource) decodeStored(data []byte, revision uint64) (map[string]any, error) {
	var obj map[string]any
	if err := kjson.UnmarshalCaseSensitivePreserveInts(data, &obj); err != nil || obj == nil {
		return nil, fmt.Errorf("decode stored %s: %w", r.StoreResource(), err)
	}
	if meta(obj) == nil {
		return nil, fmt.Errorf("decode stored %s: no metadata", r.StoreResource())
	}
	obj, err := r.FromStored(obj)
	if err != nil {
		return nil, fmt.Errorf("decode stored %s: %w", r.StoreResource(), err)
	}
	setRevision(obj, revision)
	return obj, nil
}

func (c *call) checkType(obj map[string]any) error {
	want := c.res.GVK
	apiVersion, _ := obj["apiVersion"].(string)
	kind, _ := obj["kind"].(string)
	switch {
	case kind == "":
		return badRequest("kind is missing: want %q", want.Kind)
	case apiVersion == "":
		return badRequest("apiVersion is missing: want %q", want.GroupVersion().String())
	case kind != want.Kind:
		return badRequest("%s in version %q cannot be handled as a %s", kind, apiVersion, want.Kind)
	case apiVersion != want.GroupVersion().String():
		return badRequest("the API version in the data (%s) does not match the expected API version (%s)", apiVersion, want.GroupVersion())
	}
	return nil
}

// checkPlace makes the object's name and namespace those of the path.
func (c *call) checkPlace(obj map[string]any) error {
	m, err := ensureMeta(obj)
	if err != nil {
		return err
	}
	if c.res.Namespaced {
		switch ns, _ := m["namespace"].(string); ns {
		case "":
			m["namespace"] = c.info.Namespace
		case c.info.Namespace:
		default:
			return badRequest("the namespace of the provided object does not match the namespace sent on the request: %q, %q", ns, c.info.Namespace)
		}
	}
	if c.info.Name == "" {
		return nil
	}
	switch name, _ := m["name"].(string); name {
	case "":
		m["name"] = c.info.Name
	case c.info.Name:
	default:
		return badRequest("the name of the object (%s) does not match the name on the URL (%s)", name, c.info.Name)
	}
	return nil
}

// protobufDecoder reads what Kubernetes' typed clients send. Whatever it cannot
// read is an error: taking an unreadable review for an empty one would grant it.
type protobufDecoder struct{ decoder runtime.Decoder }

func newProtobufDecoder() *protobufDecoder {
	scheme := runtime.NewScheme()
	scheme.AddKnownTypes(corev1.SchemeGroupVersion, &corev1.Namespace{}, &corev1.Event{})
	scheme.AddKnownTypes(authorizationv1.SchemeGroupVersion, &authorizationv1.SelfSubjectAccessReview{}, &authorizationv1.SelfSubjectRulesReview{},
		&authorizationv1.SubjectAccessReview{}, &authorizationv1.LocalSubjectAccessReview{})
	scheme.AddKnownTypes(authenticationv1.SchemeGroupVersion, &authenticationv1.SelfSubjectReview{})
	scheme.AddKnownTypes(authenticationv1beta1.SchemeGroupVersion, &authenticationv1beta1.SelfSubjectReview{})
	scheme.AddKnownTypes(apiextensionsv1.SchemeGroupVersion, &apiextensionsv1.CustomResourceDefinition{})
	scheme.AddKnownTypes(rbacv1.SchemeGroupVersion, &rbacv1.Role{}, &rbacv1.RoleBinding{}, &rbacv1.ClusterRole{}, &rbacv1.ClusterRoleBinding{})
	for _, gv := range []schema.GroupVersion{
		corev1.SchemeGroupVersion, authorizationv1.SchemeGroupVersion, authenticationv1.SchemeGroupVersion,
		authenticationv1beta1.SchemeGroupVersion, rbacv1.SchemeGroupVersion, apiextensionsv1.SchemeGroupVersion,
	} {
		metav1.AddToGroupVersion(scheme, gv)
	}
	scheme.AddKnownTypes(metav1.SchemeGroupVersion, &metav1.DeleteOptions{})
	return &protobufDecoder{protobuf.NewSerializer(scheme, scheme)}
}

func (d *protobufDecoder) decode(data []byte) (runtime.Object, error) {
	obj, gvk, err := d.decoder.Decode(data, nil, nil)
	if err != nil {
		return nil, badRequest("decode protobuf: %v", err)
	}
	obj.GetObjectKind().SetGroupVersionKind(*gvk)
	return obj, nil
}

// readInto decodes a body of one of the types of protobufDecoder.
func (c *call) readInto(into runtime.Object, gvk schema.GroupVersionKind) error {
	data, err := c.readBody()
	if err != nil {
		return err
	}
	switch media := c.bodyType(); media {
	case mediaProtobuf:
		obj, err := c.protobuf().decode(data)
		if err != nil {
			return err
		}
		if got := obj.GetObjectKind().GroupVersionKind(); got != gvk {
			return badRequest("the body holds a %s, want %s", got, gvk)
		}
		if data, err = json.Marshal(obj); err != nil {
			return badRequest("decode protobuf: %v", err)
		}
	case mediaYAML:
		if data, err = yaml.YAMLToJSON(data); err != nil {
			return badRequest("the body is not YAML: %v", err)
		}
	case mediaJSON:
	default:
		return unsupportedMedia(media, mediaJSON, mediaYAML, mediaProtobuf)
	}
	if err := kjson.UnmarshalCaseSensitivePreserveInts(data, into); err != nil {
		return badRequest("the body is not a %s: %v", gvk.Kind, err)
	}
	if got := into.GetObjectKind().GroupVersionKind(); got.Kind != "" && got != gvk {
		return badRequest("the body holds a %s, want %s", got, gvk)
	}
	return nil
}
