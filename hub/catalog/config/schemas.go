// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"context"
	"crypto/sha256"
	"sync"

	"k8s.io/apimachinery/pkg/util/validation/field"
)

// maxCompiled bounds the schemas that are kept.
const maxCompiled = 256

// Schemas keeps compiled schemas by their text, as compiling takes long. It is
// safe for concurrent use; the zero Schemas is ready.
type Schemas struct {
	mu       sync.Mutex
	compiled map[[sha256.Size]byte]*Schema
}

// Compile is the function of that name, which keeps what it made.
func (s *Schemas) Compile(ctx context.Context, raw []byte, path *field.Path) (*Schema, field.ErrorList) {
	if len(raw) == 0 {
		return nil, nil
	}
	key := sha256.Sum256(raw)
	s.mu.Lock()
	found, ok := s.compiled[key]
	s.mu.Unlock()
	if ok {
		return found, nil
	}
	made, errs := Compile(ctx, raw, path)
	if len(errs) > 0 {
		return nil, errs
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.compiled) >= maxCompiled || s.compiled == nil {
		s.compiled = map[[sha256.Size]byte]*Schema{} // rare, and only costs time
	}
	s.compiled[key] = made
	return made, nil
}
