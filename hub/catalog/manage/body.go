// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package manage

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/drover-io/drover/shared/apis/fleet"
)

// maxBody is more than the longest list of packages takes.
const maxBody = 1 << 20

// fields are what a request says of a version; nil is what it does not say.
type fields struct {
	Datastore, Name *string
	Manager, Image  *string
	Packages        *[]string
	Active, Default *bool
}

// bodyWait bounds how long a client may take to send a body.
const bodyWait = 30 * time.Second

// readBody returns the body of a request with JSON.
func readBody(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	if text := r.Header.Get("Content-Type"); text != "" {
		if kind, _, err := mime.ParseMediaType(text); err != nil || kind != "application/json" {
			return nil, fail(http.StatusUnsupportedMediaType, "Content-Type %q: send application/json", text)
		}
	}
	control := http.NewResponseController(w)
	_ = control.SetReadDeadline(time.Now().Add(bodyWait)) // not every connection has deadlines
	defer func() { _ = control.SetReadDeadline(time.Time{}) }()
	data, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	var large *http.MaxBytesError
	if errors.As(err, &large) {
		return nil, fail(http.StatusRequestEntityTooLarge, "the body is larger than %d bytes", large.Limit)
	}
	if err != nil {
		return nil, fail(http.StatusBadRequest, "the body could not be read: %v", err)
	}
	return data, nil
}

// readNew reads the body of a POST: {"version": {...}}.
func readNew(data []byte) (*fields, error) {
	outer, err := readObject(data, "")
	if err != nil {
		return nil, err
	}
	for _, key := range sortedKeys(outer) {
		if key != "version" {
			return nil, fail(http.StatusBadRequest, "%s: not a key of the body, which is {\"version\": {...}}", quoted(key))
		}
	}
	inner, ok := outer["version"]
	if !ok {
		return nil, fail(http.StatusBadRequest, "version: missing; the body is {\"version\": {...}}")
	}
	f, err := readFields(inner, "version")
	if err != nil {
		return nil, err
	}
	for _, need := range []struct {
		key string
		got *string
	}{{"datastore", f.Datastore}, {"name", f.Name}, {"image", f.Image}} {
		if need.got == nil {
			return nil, fail(http.StatusBadRequest, "version.%s: missing", need.key)
		}
	}
	return f, nil
}

// readChange reads the body of a PATCH: the fields themselves.
func readChange(data []byte) (*fields, error) {
	f, err := readFields(data, "")
	if err != nil {
		return nil, err
	}
	for key, got := range map[string]*string{"datastore": f.Datastore, "name": f.Name} {
		if got != nil {
			return nil, fail(http.StatusBadRequest, "%s: cannot be changed; register another version", key)
		}
	}
	return f, nil
}

// readFields reads the fields of a version in an object at path.
func readFields(data []byte, path string) (*fields, error) {
	object, err := readObject(data, path)
	if err != nil {
		return nil, err
	}
	var f fields
	// What Trove calls a field later than the specification did counts too.
	names := map[string]string{"datastore_name": "datastore", "datastore_manager": "manager"}
	for _, key := range sortedKeys(object) {
		raw, at := object[key], strings.TrimPrefix(path+"."+key, ".")
		name := key
		if canonical, ok := names[key]; ok {
			if _, both := object[canonical]; both {
				return nil, fail(http.StatusBadRequest, "%s: another name of %s, which is there too", at, canonical)
			}
			name = canonical
		}
		var err error
		switch name {
		case "datastore":
			f.Datastore, err = readText(raw, at)
		case "name":
			f.Name, err = readText(raw, at)
		case "manager":
			f.Manager, err = readText(raw, at)
		case "image":
			f.Image, err = readText(raw, at)
		case "packages":
			f.Packages, err = readPackages(raw, at)
		case "active":
			f.Active, err = readBool(raw, at)
		case "default":
			f.Default, err = readBool(raw, at)
		default:
			return nil, fail(http.StatusBadRequest, "%s: not a field of a datastore version, which are datastore, name, manager, image, packages, active and default", quoted(at))
		}
		if err != nil {
			return nil, err
		}
	}
	if m := f.Manager; m != nil && !slices.Contains([]string{fleet.ManagerManifests, fleet.ManagerKustomize, fleet.ManagerHelm}, *m) {
		return nil, fail(http.StatusBadRequest, "manager: %s is none; it is manifests, kustomize or helm", quoted(*m))
	}
	return &f, nil
}

// readObject reads a JSON object, each key of which may be there once.
func readObject(data []byte, path string) (map[string]json.RawMessage, error) {
	what := "the body"
	if path != "" {
		what = path
	}
	if len(bytes.TrimSpace(data)) == 0 {
		return nil, fail(http.StatusBadRequest, "%s is empty: a JSON object is needed", what)
	}
	if !utf8.Valid(data) {
		return nil, fail(http.StatusBadRequest, "%s is not UTF-8", what)
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return nil, fail(http.StatusBadRequest, "%s is not a JSON object", what)
	}
	out := map[string]json.RawMessage{}
	for dec.More() {
		t, err := dec.Token()
		if err != nil {
			return nil, notJSON(what, dec, err)
		}
		key, _ := t.(string)
		if _, twice := out[key]; twice {
			return nil, fail(http.StatusBadRequest, "%s: there twice", quoted(strings.TrimPrefix(path+"."+key, ".")))
		}
		var raw json.RawMessage
		if err := dec.Decode(&raw); err != nil {
			return nil, notJSON(what, dec, err)
		}
		out[key] = raw
	}
	if _, err := dec.Token(); err != nil {
		return nil, notJSON(what, dec, err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, fail(http.StatusBadRequest, "%s: something follows the object at byte %d", what, dec.InputOffset())
	}
	return out, nil
}

func notJSON(what string, dec *json.Decoder, err error) error {
	return fail(http.StatusBadRequest, "%s is not JSON: byte %d: %v", what, dec.InputOffset(), err)
}

func readText(raw json.RawMessage, at string) (*string, error) {
	var v *string
	if err := json.Unmarshal(raw, &v); err != nil || v == nil {
		return nil, fail(http.StatusBadRequest, "%s: must be a string", at)
	}
	if *v == "" {
		return nil, fail(http.StatusBadRequest, "%s: must not be empty", at)
	}
	return v, nil
}

func readBool(raw json.RawMessage, at string) (*bool, error) {
	var v *bool
	if err := json.Unmarshal(raw, &v); err != nil || v == nil {
		return nil, fail(http.StatusBadRequest, "%s: must be true or false", at)
	}
	return v, nil
}

func readPackages(raw json.RawMessage, at string) (*[]string, error) {
	var list *[]*string
	if err := json.Unmarshal(raw, &list); err != nil || list == nil || slices.Contains(*list, nil) {
		return nil, fail(http.StatusBadRequest, "%s: must be a list of strings", at)
	}
	out := make([]string, 0, len(*list))
	for i, p := range *list {
		switch {
		case *p == "" || utf8.RuneCountInString(*p) > 255:
			return nil, fail(http.StatusBadRequest, "%s[%d]: must have 1 to 255 characters", at, i)
		case slices.Contains(out, *p):
			return nil, fail(http.StatusBadRequest, "%s[%d]: %s is in the list already", at, i, quoted(*p))
		}
		out = append(out, *p)
	}
	return &out, nil
}

func sortedKeys(m map[string]json.RawMessage) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// quoted is a text of somebody else's in a message, at bounded length.
func quoted(text string) string {
	if runes := []rune(text); len(runes) > 64 {
		text = string(runes[:64]) + "…"
	}
	return fmt.Sprintf("%q", text)
}
