// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package content

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	validate "k8s.io/apimachinery/pkg/api/validate/content"
	kjson "sigs.k8s.io/json"
)

const (
	// MaxLine is the largest object of a bundle in bytes: more than any API server
	// takes.
	MaxLine = 3 << 20
	// MaxObjects is how many objects a bundle may hold.
	MaxObjects = 20_000
)

// LineError is what is wrong with a bundle.
type LineError struct {
	Line int // from 1; 0: of the whole
	Err  error
}

// Error names the line.
func (e *LineError) Error() string {
	if e.Line == 0 {
		return e.Err.Error()
	}
	return fmt.Sprintf("line %d: %v", e.Line, e.Err)
}

// Unwrap returns the cause.
func (e *LineError) Unwrap() error { return e.Err }

// Check reads a bundle and returns how many objects it holds. The error names the
// line that is wrong.
func Check(data []byte) (int, error) {
	if len(data) > MaxBundle {
		return 0, ErrTooLarge
	}
	if len(data) == 0 {
		return 0, &LineError{0, errors.New("the bundle is empty")}
	}
	seen := map[string]int{}
	n := 0
	for rest := data; len(rest) > 0; {
		line, after, ended := bytes.Cut(rest, []byte("\n"))
		n++
		bad := func(err error) (int, error) { return 0, &LineError{n, err} }
		switch {
		case n > MaxObjects:
			return 0, &LineError{0, fmt.Errorf("the bundle has more than %d objects", MaxObjects)}
		case len(line) > MaxLine:
			return bad(fmt.Errorf("more than %d bytes", MaxLine))
		case !ended:
			return bad(errors.New("it does not end with a newline: the bundle may be cut off"))
		}
		key, err := checkLine(line)
		if err != nil {
			return bad(err)
		}
		if first, dup := seen[key]; dup {
			return bad(fmt.Errorf("the same object as on line %d", first))
		}
		seen[key] = n
		rest = after
	}
	return n, nil
}

// checkLine checks one object and returns what it is the same as.
func checkLine(line []byte) (string, error) {
	line = bytes.TrimSuffix(line, []byte("\r"))
	if len(bytes.TrimSpace(line)) == 0 {
		return "", errors.New("empty: want one JSON object a line")
	}
	var obj struct {
		APIVersion string `json:"apiVersion"`
		Kind       string `json:"kind"`
		Metadata   struct {
			Name         string `json:"name"`
			Namespace    string `json:"namespace"`
			GenerateName string `json:"generateName"`
		} `json:"metadata"`
	}
	if line[0] != '{' {
		return "", errors.New("not a JSON object")
	}
	if err := kjson.UnmarshalCaseSensitivePreserveInts(line, &obj); err != nil {
		return "", fmt.Errorf("not a Kubernetes object: %w", err)
	}
	switch {
	case obj.APIVersion == "":
		return "", errors.New("apiVersion is missing")
	case obj.Kind == "":
		return "", errors.New("kind is missing")
	case strings.HasSuffix(obj.Kind, "List") && obj.Metadata.Name == "":
		return "", fmt.Errorf("kind %s: put its items on lines of their own", obj.Kind)
	case obj.Metadata.Name == "" && obj.Metadata.GenerateName != "":
		return "", errors.New("metadata.generateName: an object that is applied needs a name")
	case obj.Metadata.Name == "":
		return "", errors.New("metadata.name is missing")
	}
	for field, value := range map[string]string{"metadata.name": obj.Metadata.Name, "metadata.namespace": obj.Metadata.Namespace} {
		if problems := validate.IsPathSegmentName(value); len(problems) > 0 {
			return "", fmt.Errorf("%s %.80q %s", field, value, problems[0])
		}
	}
	group, _, grouped := strings.Cut(obj.APIVersion, "/")
	if !grouped {
		group = ""
	}
	return strings.Join([]string{group, obj.Kind, obj.Metadata.Namespace, obj.Metadata.Name}, "\x00"), nil
}
