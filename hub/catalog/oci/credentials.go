// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package oci

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"

	"oras.land/oras-go/v2/registry/remote/auth"
	"oras.land/oras-go/v2/registry/remote/credentials"
)

// CheckCredentials says why a file cannot be used as Config.Credentials. It never
// quotes what is secret in it.
func CheckCredentials(file string) error {
	data, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var docker struct {
		Auths   map[string]json.RawMessage `json:"auths"`
		Store   string                     `json:"credsStore"`
		Helpers map[string]string          `json:"credHelpers"`
	}
	if err := json.Unmarshal(data, &docker); err != nil {
		var syntax *json.SyntaxError
		var kind *json.UnmarshalTypeError
		switch {
		case errors.As(err, &syntax):
			return fmt.Errorf("%s: not JSON at byte %d: want the form of docker's config.json", file, syntax.Offset)
		case errors.As(err, &kind):
			return fmt.Errorf("%s: %s is not of the form of docker's config.json", file, kind.Field)
		}
		return fmt.Errorf("%s: %w", file, err)
	}
	if docker.Store != "" || len(docker.Helpers) > 0 {
		return fmt.Errorf("%s: credsStore and credHelpers name programs, which a hub does not run: put the credentials into auths", file)
	}
	if len(docker.Auths) == 0 {
		return fmt.Errorf(`%s: it has no credentials: want {"auths": {"REGISTRY": {"auth": "base64 of USER:PASSWORD"}}}`, file)
	}
	s, err := credentials.NewFileStore(file)
	if err != nil {
		return fmt.Errorf("%s: not of the form of docker's config.json", file)
	}
	for _, registry := range slices.Sorted(maps.Keys(docker.Auths)) {
		c, err := s.Get(context.Background(), registry)
		if err != nil || c == auth.EmptyCredential {
			return fmt.Errorf("%s: auths[%q]: want auth, base64 of USER:PASSWORD", file, registry)
		}
	}
	return nil
}
