// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// maxPath bounds the elements of a path.
const maxPath = 64

// FormatPath writes the place of a value: image.tag, or annotations["a.b/c"] when
// a key is not a plain word.
func FormatPath(keys []string) string {
	var b strings.Builder
	for i, k := range keys {
		switch {
		case k == "" || strings.ContainsAny(k, ".[]\"\\ \t\n\r") || !printable(k):
			b.WriteString("[" + strconv.Quote(k) + "]")
		case i > 0:
			b.WriteString("." + k)
		default:
			b.WriteString(k)
		}
	}
	return b.String()
}

func printable(s string) bool {
	for _, r := range s {
		if !strconv.IsPrint(r) || r == '\uFFFD' {
			return false
		}
	}
	return true
}

// ParsePath reads what FormatPath writes; "" is the whole.
func ParsePath(text string) ([]string, error) {
	var keys []string
	fail := func(rest, why string) ([]string, error) {
		return nil, fmt.Errorf("path %q: at character %d: %s", text, len(text)-len(rest)+1, why)
	}
	for rest := text; rest != ""; {
		if len(keys) == maxPath {
			return nil, fmt.Errorf("path %.64q...: more than %d parts", text, maxPath)
		}
		if strings.HasPrefix(rest, "[") {
			quoted, err := strconv.QuotedPrefix(rest[1:])
			if err != nil || !strings.HasPrefix(quoted, `"`) || !strings.HasPrefix(rest[1+len(quoted):], "]") {
				return fail(rest, `want a quoted key such as ["a.b"]; lists have no places of their own`)
			}
			key, err := strconv.Unquote(quoted)
			if err != nil {
				return fail(rest, "want a quoted key")
			}
			keys = append(keys, key)
			rest = rest[len(quoted)+2:]
			continue
		}
		if len(keys) > 0 {
			after, ok := strings.CutPrefix(rest, ".")
			if !ok {
				return fail(rest, `want "." or "["`)
			}
			rest = after
		}
		end := strings.IndexAny(rest, ".[")
		if end < 0 {
			end = len(rest)
		}
		if end == 0 || strings.ContainsAny(rest[:end], "]\"\\ \t\n\r") {
			return fail(rest, "want a key")
		}
		keys = append(keys, rest[:end])
		rest = rest[end:]
	}
	return keys, nil
}

var errNotMap = errors.New("is not an object")

// put sets the value at a path of maps, making those that are missing.
func put(values map[string]any, keys []string, value any) error {
	for i, k := range keys[:len(keys)-1] {
		next, ok := values[k].(map[string]any)
		if !ok {
			if values[k] != nil {
				return fmt.Errorf("%s %w", FormatPath(keys[:i+1]), errNotMap)
			}
			next = map[string]any{}
			values[k] = next
		}
		values = next
	}
	values[keys[len(keys)-1]] = value
	return nil
}
