// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package jointoken_test

import (
	"errors"
	"fmt"
	"strings"

	"github.com/drover-io/drover/pki/jointoken"
)

func Example() {
	// The hub makes a token, shows its text once and keeps the hash.
	pin := strings.Repeat("0123456789abcdef", 4)
	made := jointoken.New([]string{"https://hub.example.com:8443"}, []string{pin}, "fleet.example.com", "paris-1")
	text, err := made.Encode()
	if err != nil {
		panic(err)
	}
	stored := jointoken.HashSecret(made.Secret)

	// The agent reads it; the hub compares what the agent sends.
	token, err := jointoken.Parse(text)
	if err != nil {
		panic(err)
	}
	fmt.Println(token.URLs[0], token.Cluster, jointoken.SecretMatches(stored, token.Secret))

	// A token that was cut is noticed before any connection is made.
	_, err = jointoken.Parse(text[:len(text)-3])
	fmt.Println(errors.Is(err, jointoken.ErrDamaged), err)

	// Output:
	// https://hub.example.com:8443 paris-1 true
	// true not a valid join token (truncated or mistyped): copy it again, whole
}
