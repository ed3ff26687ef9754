// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package live

import (
	"encoding/json"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// columnsOf are the names of the cells of a row, a struct.
func columnsOf(v any) []string {
	t := reflect.TypeOf(v)
	out := make([]string, t.NumField())
	for i := range out {
		out[i], _, _ = strings.Cut(t.Field(i).Tag.Get("json"), ",")
	}
	return out
}

// appendRow appends a struct as an array of its fields, and with cells where each
// of them ends.
func appendRow(dst []byte, v any, cells bool) ([]byte, []int32) {
	s := reflect.ValueOf(v).Elem()
	var ends []int32
	if cells {
		ends = make([]int32, 0, s.NumField())
	}
	for i := range s.NumField() {
		if i == 0 {
			dst = append(dst, '[')
		} else {
			dst = append(dst, ',')
		}
		dst = appendValue(dst, s.Field(i))
		if cells {
			ends = append(ends, int32(len(dst))) //nolint:gosec // rows are small
		}
	}
	return append(dst, ']'), ends
}

// appendValue is json.Marshal for the few types of rows, without the cost of it.
func appendValue(dst []byte, v reflect.Value) []byte {
	switch v.Kind() {
	case reflect.String:
		return appendString(dst, v.String())
	case reflect.Int, reflect.Int32, reflect.Int64:
		return strconv.AppendInt(dst, v.Int(), 10)
	case reflect.Bool:
		return strconv.AppendBool(dst, v.Bool())
	case reflect.Pointer:
		if v.IsNil() {
			return append(dst, "null"...)
		}
		return appendValue(dst, v.Elem())
	}
	if m, ok := v.Interface().(map[string]string); ok {
		dst = append(dst, '{')
		for i, k := range slices.Sorted(maps.Keys(m)) {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = appendString(append(appendString(dst, k), ':'), m[k])
		}
		return append(dst, '}')
	}
	if v.Kind() == reflect.Slice && v.IsNil() {
		return append(dst, "[]"...)
	}
	data, err := json.Marshal(v.Interface())
	if err != nil {
		return append(dst, "null"...)
	}
	return append(dst, data...)
}

func appendString(dst []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c >= utf8.RuneSelf || c == '"' || c == '\\' {
			data, err := json.Marshal(s)
			if err != nil {
				return append(dst, `""`...)
			}
			return append(dst, data...)
		}
	}
	return append(append(append(dst, '"'), s...), '"')
}

// without is a row with null for the cells that hide says.
func (r *row) without(dst []byte, hide func(column int) bool) []byte {
	from := int32(0)
	for i, end := range r.ends {
		if hide(i) {
			dst = append(dst, r.full[from]) // [ or ,
			dst = append(dst, "null"...)
		} else {
			dst = append(dst, r.full[from:end]...)
		}
		from = end
	}
	return append(dst, ']')
}
