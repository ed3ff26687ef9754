// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package delivery

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"

	utiljson "k8s.io/apimachinery/pkg/util/json"

	"github.com/drover-io/drover/shared/apis/work"
)

// contentOf returns the spec of a stored work as canonical JSON: keys sorted,
// so that the digest depends on what it says and not on who wrote it.
func contentOf(object []byte) ([]byte, error) {
	var w struct {
		Spec json.RawMessage `json:"spec"`
	}
	if err := json.Unmarshal(object, &w); err != nil {
		return nil, fmt.Errorf("decode work: %w", err)
	}
	if len(w.Spec) == 0 {
		w.Spec = json.RawMessage("{}")
	}
	var spec any
	if err := utiljson.Unmarshal(w.Spec, &spec); err != nil {
		return nil, fmt.Errorf("decode spec: %w", err)
	}
	out, err := json.Marshal(spec)
	if err != nil {
		return nil, fmt.Errorf("encode spec: %w", err)
	}
	return out, nil
}

func digestOf(content []byte) string {
	sum := sha256.Sum256(content)
	return "sha256:" + hex.EncodeToString(sum[:])
}

func hasFinalizer(list []string) bool { return slices.Contains(list, work.Finalizer) }
