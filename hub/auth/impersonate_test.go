// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package auth

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/user"
)

func TestImpersonation(t *testing.T) {
	t.Parallel()
	ann := person("ann", "devs")
	p := granted("User/ann",
		rule("impersonate", "-", "users", "bob", "system:anonymous"), rule("impersonate", "-", "groups", "ops"),
		rule("impersonate", "authentication.k8s.io", "uids", "u1"), rule("impersonate", "authentication.k8s.io", "userextras/scopes", "view"),
		rule("impersonate", "-", "serviceaccounts", "robot"))
	login := authenticator.RequestFunc(func(*http.Request) (*authenticator.Response, bool, error) {
		return &authenticator.Response{User: ann}, true, nil
	})
	tests := []struct {
		name    string
		headers string // "Key=value;Key=value"
		user    string // name and groups, or "" when refused
		code    int
		want    string
	}{
		{"nobody", "", "ann devs system:authenticated", 0, ""},
		{"a user", "User=bob", "bob system:authenticated", 0, ""},
		{"with a group", "User=bob;Group=ops", "bob ops system:authenticated", 0, ""},
		{"with everything", "User=bob;Group=ops;Uid=u1;Extra-Scopes=view", "bob ops system:authenticated", 0, ""},
		{"anonymous", "User=system:anonymous", "system:anonymous system:unauthenticated", 0, ""},
		{"an account", "User=system:serviceaccount:n:robot", "system:serviceaccount:n:robot system:authenticated", 0, ""},
		{"another user", "User=eve", "", 403, `User "ann" cannot impersonate resource "users"`},
		{"masters", "User=bob;Group=system:masters", "", 403, `"groups"`},
		{"one group of two", "User=bob;Group=ops;Group=devs", "", 403, `"groups"`},
		{"another uid", "User=bob;Uid=u2", "", 403, `"uids"`},
		{"another extra value", "User=bob;Extra-Scopes=write", "", 403, `"userextras"`},
		{"another extra key", "User=bob;Extra-Other=view", "", 403, `"userextras"`},
		{"another account", "User=system:serviceaccount:n:x", "", 403, `"serviceaccounts"`},
		{"half an account", "User=system:serviceaccount:n", "", 400, "NAMESPACE:NAME"},
		{"a group without a user", "Group=ops", "", 400, "Impersonate-User"},
		{"an empty user", "User=", "", 400, "want one value"},
		{"two users", "User=bob;User=eve", "", 400, "want one value"},
		{"an unknown header", "User=bob;Root=yes", "", 400, "not known"},
		{"too many", "User=bob" + strings.Repeat(";Group=ops", 64), "", 400, "too many"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := httptest.NewRequest(http.MethodGet, "/", nil)
			for _, h := range strings.Split(tt.headers, ";") {
				if k, v, ok := strings.Cut(h, "="); ok {
					r.Header.Add("Impersonate-"+k, v)
				}
			}
			who, ok, err := Impersonation(login, RBAC{fixed{p}}).AuthenticateRequest(r)
			if tt.user == "" {
				var refused *ImpersonationError
				var status apierrors.APIStatus
				if ok || !errors.As(err, &refused) || refused.By != user.Info(ann) || !errors.As(err, &status) ||
					int(status.Status().Code) != tt.code || !strings.Contains(err.Error(), tt.want) {
					t.Fatalf("%t %v, want %d with %s", ok, err, tt.code, tt.want)
				}
				return
			}
			if err != nil || !ok {
				t.Fatal(ok, err)
			}
			if got := strings.Join(slices.Concat([]string{who.User.GetName()}, who.User.GetGroups()), " "); got != tt.user {
				t.Errorf("got %q, want %q", got, tt.user)
			}
			if by, acts := Original(who.User); by != user.Info(ann) || acts != (tt.headers != "") {
				t.Errorf("original: %v %t", by, acts)
			}
			if strings.Contains(tt.headers, "Extra") && (who.User.GetUID() != "u1" || who.User.GetExtra()["scopes"][0] != "view") {
				t.Errorf("got %+v", who.User)
			}
		})
	}
}
