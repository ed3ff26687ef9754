// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package api

import (
	"encoding/json"
	"testing"

	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer/protobuf"
)

// FuzzProtobuf: what typed clients send is read or refused, and what was read can
// be written as JSON.
func FuzzProtobuf(f *testing.F) {
	encoder := protobuf.NewSerializer(nil, nil)
	ns := &corev1.Namespace{}
	ns.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Namespace"))
	ns.Name = "c1"
	review := &authorizationv1.SelfSubjectAccessReview{Spec: authorizationv1.SelfSubjectAccessReviewSpec{ResourceAttributes: &authorizationv1.ResourceAttributes{Verb: "get"}}}
	review.SetGroupVersionKind(authorizationv1.SchemeGroupVersion.WithKind("SelfSubjectAccessReview"))
	for _, obj := range []runtime.Object{ns, review} {
		data, err := runtime.Encode(encoder, obj)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	d := newProtobufDecoder()
	f.Fuzz(func(t *testing.T, data []byte) {
		obj, err := d.decode(data)
		if err != nil {
			return
		}
		if _, err := json.Marshal(obj); err != nil {
			t.Logf("%T: %v", obj, err) // answered with 400
		}
	})
}
