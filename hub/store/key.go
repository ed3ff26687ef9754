// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"fmt"
	"strings"
)

// A key is three NATS tokens, resource.namespace.name. Within a token a dot
// is written '/', every byte outside [-_a-zA-Z0-9] is written =XX, and a leading
// underscore is escaped as well, so that "_" alone can stand for the empty
// namespace and tokens that begin with "_" are free for the store itself.
const (
	emptyNamespace = "_"
	metaPrefix     = "_meta."
	metaIdentity   = metaPrefix + "identity"
	metaFloor      = metaPrefix + "floor"
	metaFiller     = metaPrefix + "filler"

	// maxKey bounds an encoded key, in bytes; NATS refuses subjects near 4 KiB.
	maxKey = 2048
)

const upperHex = "0123456789ABCDEF"

// String is the key for messages: resource, namespace/name.
func (k Key) String() string {
	if k.Namespace == "" {
		return k.Resource + " " + k.Name
	}
	return k.Resource + " " + k.Namespace + "/" + k.Name
}

func encodeKey(k Key) (string, error) {
	if k.Resource == "" || k.Name == "" {
		return "", fmt.Errorf("key %q: %w: resource and name must not be empty", k, ErrInvalid)
	}
	var b strings.Builder
	b.Grow(len(k.Resource) + len(k.Namespace) + len(k.Name) + 3)
	encodeToken(&b, k.Resource)
	b.WriteByte('.')
	if k.Namespace == "" {
		b.WriteString(emptyNamespace)
	} else {
		encodeToken(&b, k.Namespace)
	}
	b.WriteByte('.')
	encodeToken(&b, k.Name)
	if b.Len() > maxKey {
		return "", fmt.Errorf("key of %s: %w: longer than %d bytes", k.Resource, ErrInvalid, maxKey)
	}
	return b.String(), nil
}

func encodeToken(b *strings.Builder, s string) {
	for i := range len(s) {
		c := s[i]
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '-', c == '_' && i > 0:
			b.WriteByte(c)
		case c == '.':
			b.WriteByte('/')
		default:
			b.WriteByte('=')
			b.WriteByte(upperHex[c>>4])
			b.WriteByte(upperHex[c&15])
		}
	}
}

// decodeKey is the inverse of encodeKey and refuses whatever encodeKey cannot produce.
func decodeKey(s string) (Key, error) {
	bad := func() (Key, error) { return Key{}, fmt.Errorf("stored key %q: %w", s, ErrInvalid) }
	resource, rest, ok := strings.Cut(s, ".")
	if !ok {
		return bad()
	}
	namespace, name, ok := strings.Cut(rest, ".")
	if !ok {
		return bad()
	}
	var k Key
	if k.Resource, ok = decodeToken(resource); !ok {
		return bad()
	}
	if namespace != emptyNamespace {
		if k.Namespace, ok = decodeToken(namespace); !ok || k.Namespace == "" {
			return bad()
		}
	}
	if k.Name, ok = decodeToken(name); !ok {
		return bad()
	}
	if again, err := encodeKey(k); err != nil || again != s {
		return bad()
	}
	return k, nil
}

func decodeToken(s string) (string, bool) {
	if !strings.ContainsAny(s, "=/") {
		return s, true
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '/':
			b = append(b, '.')
		case '=':
			if i+2 >= len(s) {
				return "", false
			}
			hi, lo := strings.IndexByte(upperHex, s[i+1]), strings.IndexByte(upperHex, s[i+2])
			if hi < 0 || lo < 0 {
				return "", false
			}
			b = append(b, byte(hi<<4|lo))
			i += 2
		default:
			b = append(b, s[i])
		}
	}
	return string(b), true
}
