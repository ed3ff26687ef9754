// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"bytes"
	stdjson "encoding/json"
	"fmt"
	"time"
	"unicode/utf8"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/json"
)

// checkObject says whether data is one JSON object, and reads its header;
// ErrInvalid.
func checkObject(data []byte) (Header, error) {
	if startsObject(data) && !stdjson.Valid(data) {
		return Header{}, fmt.Errorf("parse object: %w: not well-formed JSON", ErrInvalid)
	}
	return parseHeader(data)
}

// parseHeader reads the part of the metadata the store needs. It looks at no more
// of the rest than it needs to find its way; what is not a JSON object is
// ErrInvalid.
func parseHeader(data []byte) (Header, error) {
	// A JSON null would decode into anything.
	if !startsObject(data) {
		return Header{}, fmt.Errorf("parse object: %w: not a JSON object", ErrInvalid)
	}
	metadata, ok := field(data, "metadata")
	if !ok {
		return parseWhole(data)
	}
	var h Header
	if metadata == nil {
		return h, nil
	}
	fields := headerFields{}
	if !members(metadata, fields.take) {
		return parseWhole(data) // null, of a wrong type, or with odd names
	}
	var created, deleted metav1.Time
	for i, into := range [headerMembers]any{&h.UID, &h.Generation, &h.Labels, &h.Finalizers, &created, &deleted} {
		if fields[i] == nil || plain(fields[i], into) {
			continue
		}
		if err := json.UnmarshalCaseSensitivePreserveInts(fields[i], into); err != nil {
			return Header{}, fmt.Errorf("parse object: %w: metadata.%s: %w", ErrInvalid, headerNames(i), err)
		}
	}
	h.CreationTimestamp, h.DeletionTimestamp = created.Time, deleted.Time
	return h, nil
}

// plain decodes what needs no parser, as nearly everything does not: the header of
// each object is read when it is written, and again when the cache takes it.
func plain(value []byte, into any) bool {
	switch into := into.(type) {
	case *string:
		text, ok := plainString(value)
		*into = text
		return ok
	case *int64:
		if len(value) == 0 || len(value) > 18 || value[0] == '0' && len(value) > 1 {
			return false
		}
		n := int64(0)
		for _, c := range value {
			if c < '0' || c > '9' {
				return false
			}
			n = 10*n + int64(c-'0')
		}
		*into = n
		return true
	case *metav1.Time:
		text, ok := plainString(value)
		if !ok {
			return false
		}
		t, err := time.Parse(time.RFC3339, text)
		into.Time = t.Local()
		return err == nil
	case *map[string]string:
		labels := map[string]string{}
		ok := members(value, func(name, value []byte) bool {
			text, ok := plainString(value)
			labels[string(name)] = text
			return ok && plainText(name)
		})
		if ok {
			*into = labels
		}
		return ok
	}
	return false
}

// plainString is the content of an encoded string that means what it says.
func plainString(value []byte) (string, bool) {
	if len(value) < 2 || value[0] != '"' || value[len(value)-1] != '"' || !plainText(value[1:len(value)-1]) {
		return "", false
	}
	return string(value[1 : len(value)-1]), true
}

func plainText(text []byte) bool {
	for _, c := range text {
		if c < ' ' || c >= utf8.RuneSelf || c == '\\' || c == '"' {
			return false
		}
	}
	return true
}

const headerMembers = 6

// headerFields are the encoded members of a header, in the order of headerNames.
type headerFields [headerMembers][]byte

func headerNames(i int) string {
	return [headerMembers]string{"uid", "generation", "labels", "finalizers", "creationTimestamp", "deletionTimestamp"}[i]
}

func (f *headerFields) take(name, value []byte) bool {
	for i := range f {
		if headerNames(i) == string(name) {
			if f[i] != nil {
				return false
			}
			f[i] = value
		}
	}
	return bytes.IndexByte(name, '\\') < 0
}

// field finds a member of an object by name; nil when there is none, false when
// the object has to be read by a real parser.
func field(data []byte, want string) (found []byte, ok bool) {
	ok = members(data, func(name, value []byte) bool {
		if string(name) == want {
			if found != nil {
				return false
			}
			found = value
		}
		return bytes.IndexByte(name, '\\') < 0
	})
	return found, ok
}

// members calls f for each member of an object until f returns false. It returns
// false then, and when it cannot find its way.
func members(data []byte, f func(name, value []byte) bool) bool {
	i := blank(data, 0)
	if i >= len(data) || data[i] != '{' {
		return false
	}
	i = blank(data, i+1)
	if i < len(data) && data[i] == '}' {
		return blank(data, i+1) == len(data)
	}
	for {
		start := i
		i = skipString(data, i)
		if i < 0 {
			return false
		}
		name := data[start+1 : i-1]
		i = blank(data, i)
		if i >= len(data) || data[i] != ':' {
			return false
		}
		start = blank(data, i+1)
		i = skipValue(data, start)
		if i < 0 || !f(name, data[start:i]) {
			return false
		}
		i = blank(data, i)
		switch {
		case i >= len(data):
			return false
		case data[i] == '}':
			return blank(data, i+1) == len(data)
		case data[i] != ',':
			return false
		}
		i = blank(data, i+1)
	}
}

func blank(data []byte, i int) int {
	for i < len(data) && (data[i] == ' ' || data[i] == '\t' || data[i] == '\r' || data[i] == '\n') {
		i++
	}
	return i
}

// skipString returns what follows the string that begins at i, -1 if there is none.
func skipString(data []byte, i int) int {
	if i >= len(data) || data[i] != '"' {
		return -1
	}
	for i++; ; {
		n := bytes.IndexByte(data[i:], '"')
		if n < 0 {
			return -1
		}
		end := i + n
		escapes := 0
		for end-1-escapes >= i && data[end-1-escapes] == '\\' {
			escapes++
		}
		i = end + 1
		if escapes%2 == 0 {
			return i
		}
	}
}

// skipValue returns what follows the value that begins at i, -1 if there is none.
func skipValue(data []byte, i int) int {
	if i >= len(data) {
		return -1
	}
	switch data[i] {
	case '"':
		return skipString(data, i)
	case '{', '[':
	default:
		start := i
		for i < len(data) && bytes.IndexByte([]byte(",}] \t\r\n"), data[i]) < 0 {
			i++
		}
		if i == start {
			return -1
		}
		return i
	}
	depth := 0
	for i < len(data) {
		switch data[i] {
		case '"':
			if i = skipString(data, i); i < 0 {
				return -1
			}
			continue
		case '{', '[':
			depth++
		case '}', ']':
			if depth--; depth == 0 {
				return i + 1
			}
		}
		i++
	}
	return -1
}

// parseWhole is parseHeader by a real parser.
func parseWhole(data []byte) (Header, error) {
	var object struct {
		Metadata struct {
			UID               string            `json:"uid"`
			Generation        int64             `json:"generation"`
			Labels            map[string]string `json:"labels"`
			CreationTimestamp metav1.Time       `json:"creationTimestamp"`
			DeletionTimestamp *metav1.Time      `json:"deletionTimestamp"`
			Finalizers        []string          `json:"finalizers"`
		} `json:"metadata"`
	}
	if err := json.UnmarshalCaseSensitivePreserveInts(data, &object); err != nil {
		return Header{}, fmt.Errorf("parse object: %w: %w", ErrInvalid, err)
	}
	m := &object.Metadata
	h := Header{
		UID: m.UID, Generation: m.Generation, Labels: m.Labels,
		CreationTimestamp: m.CreationTimestamp.Time, Finalizers: m.Finalizers,
	}
	if m.DeletionTimestamp != nil {
		h.DeletionTimestamp = m.DeletionTimestamp.Time
	}
	return h, nil
}

func startsObject(data []byte) bool {
	i := blank(data, 0)
	return i < len(data) && data[i] == '{'
}
