// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package rawjson

import "bytes"

// Field returns the text at a path of keys: of a string, and "" of null and of what
// is not there. ok is false for whatever else stands on the way and for text with
// escapes; then the object has to be decoded. Of keys that appear twice the first
// counts: what the store holds has none.
func Field(data []byte, path ...string) (text string, ok bool) {
	i := space(data, 0)
	for _, want := range path {
		if i >= len(data) || data[i] != '{' {
			return "", bytes.HasPrefix(data[min(i, len(data)):], []byte("null"))
		}
		i, ok = member(data, i, want)
		if !ok || i < 0 {
			return "", ok
		}
	}
	if bytes.HasPrefix(data[i:], []byte("null")) {
		return "", true
	}
	raw, _, ok := str(data, i)
	if !ok || bytes.IndexByte(raw, '\\') >= 0 {
		return "", false
	}
	return string(raw), true
}

// member finds the value of a key in the object that starts at i, negative when
// there is none.
func member(data []byte, i int, want string) (at int, ok bool) {
	i = space(data, i+1)
	for i < len(data) && data[i] != '}' {
		key, next, ok := str(data, i)
		if !ok || bytes.IndexByte(key, '\\') >= 0 {
			return 0, false
		}
		i = space(data, next)
		if i >= len(data) || data[i] != ':' {
			return 0, false
		}
		i = space(data, i+1)
		if string(key) == want {
			return i, i < len(data)
		}
		if i, ok = value(data, i); !ok {
			return 0, false
		}
		if i = space(data, i); i < len(data) && data[i] == ',' {
			i = space(data, i+1)
		}
	}
	return -1, i < len(data)
}
