// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

// Package rawjson edits encoded objects without decoding them, so that lists
// and watches stream what the store holds.
package rawjson

import (
	"bytes"
	"errors"
	"strconv"
)

// ErrMalformed is returned for input that is not a JSON object with an object
// "metadata".
var ErrMalformed = errors.New("not a JSON object with metadata")

// Object is the outline of an encoded object.
type Object struct {
	data []byte
	// body is where the first key starts, after the opening brace.
	body int
	// metaStart and metaEnd enclose the value of metadata, braces included.
	metaStart, metaEnd int
	hasVersion         bool // apiVersion
	hasKind            bool
	// versionStart and versionEnd enclose the value of apiVersion.
	versionStart, versionEnd int
}

// Parse finds the parts of an encoded object. data must not change while the
// Object is used. It checks no more of the syntax than it needs to find its way.
func Parse(data []byte) (Object, error) {
	o := Object{data: data}
	i := space(data, 0)
	if i >= len(data) || data[i] != '{' {
		return o, ErrMalformed
	}
	i = space(data, i+1)
	o.body = i
	for i < len(data) && data[i] != '}' {
		key, next, ok := str(data, i)
		if !ok {
			return o, ErrMalformed
		}
		i = space(data, next)
		if i >= len(data) || data[i] != ':' {
			return o, ErrMalformed
		}
		start := space(data, i+1)
		end, ok := value(data, start)
		if !ok {
			return o, ErrMalformed
		}
		switch string(key) {
		case "metadata":
			if data[start] != '{' {
				return o, ErrMalformed
			}
			o.metaStart, o.metaEnd = start, end
		case "apiVersion":
			o.hasVersion, o.versionStart, o.versionEnd = true, start, end
		case "kind":
			o.hasKind = true
		}
		i = space(data, end)
		if i < len(data) && data[i] == ',' {
			i = space(data, i+1)
		} else if i >= len(data) || data[i] != '}' {
			return o, ErrMalformed
		}
	}
	if i >= len(data) || o.metaEnd == 0 {
		return o, ErrMalformed
	}
	return o, nil
}

// Append appends the whole object to dst, with its revision in metadata, in the
// version given, and with kind if it lacks that.
func (o Object) Append(dst []byte, apiVersion, kind string, revision uint64) []byte {
	dst = append(dst, '{')
	if !o.hasVersion {
		dst = append(strconv.AppendQuote(append(dst, `"apiVersion":`...), apiVersion), ',')
	}
	if !o.hasKind {
		dst = append(strconv.AppendQuote(append(dst, `"kind":`...), kind), ',')
	}
	dst = o.appendPart(dst, o.body, o.metaStart, apiVersion)
	dst = o.appendMetadata(dst, revision)
	return o.appendPart(dst, o.metaEnd, len(o.data), apiVersion)
}

// appendPart appends a part of the object, with another apiVersion if it is there.
func (o Object) appendPart(dst []byte, from, to int, apiVersion string) []byte {
	if !o.hasVersion || o.versionStart < from || o.versionEnd > to || o.says(apiVersion) {
		return append(dst, o.data[from:to]...)
	}
	dst = strconv.AppendQuote(append(dst, o.data[from:o.versionStart]...), apiVersion)
	return append(dst, o.data[o.versionEnd:to]...)
}

func (o Object) says(apiVersion string) bool {
	v := o.data[o.versionStart:o.versionEnd]
	return len(v) == len(apiVersion)+2 && v[0] == '"' && string(v[1:len(v)-1]) == apiVersion
}

// AppendPartial appends only kind, apiVersion and metadata, as a
// PartialObjectMetadata of the given version of meta.k8s.io.
func (o Object) AppendPartial(dst []byte, version string, revision uint64) []byte {
	dst = append(dst, `{"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/`...)
	dst = append(append(dst, version...), `","metadata":`...)
	dst = o.appendMetadata(dst, revision)
	return append(dst, '}')
}

func (o Object) appendMetadata(dst []byte, revision uint64) []byte {
	if revision == 0 {
		return append(dst, o.data[o.metaStart:o.metaEnd]...)
	}
	dst = append(dst, `{"resourceVersion":"`...)
	dst = strconv.AppendUint(dst, revision, 10)
	dst = append(dst, '"')
	rest := o.data[o.metaStart+1 : o.metaEnd]
	if trimmed := bytes.TrimLeft(rest, " \t\r\n"); len(trimmed) > 0 && trimmed[0] != '}' {
		dst = append(dst, ',')
	}
	return append(dst, rest...)
}

func space(data []byte, i int) int {
	for i < len(data) && (data[i] == ' ' || data[i] == '\n' || data[i] == '\t' || data[i] == '\r') {
		i++
	}
	return i
}

// str returns the raw text between the quotes that start at i, and what follows.
func str(data []byte, i int) (text []byte, next int, ok bool) {
	if i >= len(data) || data[i] != '"' {
		return nil, 0, false
	}
	start := i + 1
	for i = start; i < len(data); {
		n := bytes.IndexAny(data[i:min(len(data), i+64)], `"\`)
		if n < 0 {
			i = min(len(data), i+64)
			continue
		}
		i += n
		if data[i] == '"' {
			return data[start:i], i + 1, true
		}
		i += 2
	}
	return nil, 0, false
}

// value skips the value that starts at i.
func value(data []byte, i int) (end int, ok bool) {
	if i >= len(data) {
		return 0, false
	}
	switch data[i] {
	case '"':
		_, end, ok = str(data, i)
		return end, ok
	case '{', '[':
		depth := 0
		for i < len(data) {
			switch data[i] {
			case '"':
				_, next, ok := str(data, i)
				if !ok {
					return 0, false
				}
				i = next
				continue
			case '{', '[':
				depth++
			case '}', ']':
				depth--
				if depth == 0 {
					return i + 1, true
				}
			}
			i++
		}
		return 0, false
	}
	start := i
	for i < len(data) && data[i] != ',' && data[i] != '}' && data[i] != ']' && data[i] > ' ' {
		i++
	}
	return i, i > start
}
