// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package auth

import (
	"context"
	"crypto/x509"
	"fmt"
	"net/http"
	"time"

	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"

	"github.com/drover-io/drover/pki/identity"
)

// Keys of a user's extra values.
const (
	// ExtraSerial is the decimal serial number of the client certificate.
	ExtraSerial = "drover.io/certificate-serial"
)

// ClientCertificate recognises people by a client certificate that names a user
// of the trust domain. It looks at the roots and at the ends of the chain's
// certificates on every request, since a kept-alive connection outlives both, and
// at the signatures once a minute. Whether a serial is revoked is not known here.
//
// A request without a certificate is not an error, only not recognised, so that
// other authenticators may follow.
func ClientCertificate(roots func() *x509.CertPool, trustDomain string) authenticator.Request {
	var known verified
	return authenticator.RequestFunc(func(r *http.Request) (*authenticator.Response, bool, error) {
		if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 {
			return nil, false, nil
		}
		peer, err := known.client(r.TLS.PeerCertificates, roots(), trustDomain, time.Now())
		if err != nil {
			return nil, false, fmt.Errorf("verify client certificate: %w", err)
		}
		if peer.Kind != identity.KindUser {
			return nil, false, fmt.Errorf("verify client certificate: %s %q is not a user", peer.Kind, peer.Name)
		}
		groups := make([]string, 0, len(peer.Groups)+1)
		for _, g := range peer.Groups {
			if g != user.AllAuthenticated && g != user.AllUnauthenticated {
				groups = append(groups, g)
			}
		}
		groups = append(groups, user.AllAuthenticated)
		return &authenticator.Response{User: &user.DefaultInfo{
			Name: peer.Name, Groups: groups, Extra: map[string][]string{ExtraSerial: {peer.Serial}},
		}}, true, nil
	})
}

// Authorizer decides by Allow, and can list what it would allow.
type Authorizer struct{}

var (
	_ authorizer.UnconditionalAuthorizer = Authorizer{}
	_ authorizer.RuleResolver            = Authorizer{}
)

// Authorize implements authorizer.UnconditionalAuthorizer.
func (Authorizer) Authorize(_ context.Context, a authorizer.Attributes) (authorizer.Decision, string, error) {
	decision, reason := Allow(a.GetUser(), a)
	return decision, reason, nil
}

// RulesFor implements authorizer.RuleResolver.
func (Authorizer) RulesFor(_ context.Context, u user.Info, _ string) ([]authorizer.ResourceRuleInfo, []authorizer.NonResourceRuleInfo, bool, error) {
	var resources []authorizer.ResourceRuleInfo
	var paths []authorizer.NonResourceRuleInfo
	if inGroup(u, user.SystemPrivilegedGroup) {
		resources = append(resources, &authorizer.DefaultResourceRuleInfo{Verbs: []string{"*"}, APIGroups: []string{"*"}, Resources: []string{"*"}})
		paths = append(paths, &authorizer.DefaultNonResourceRuleInfo{Verbs: []string{"*"}, NonResourceURLs: []string{"*"}})
	}
	if inGroup(u, user.AllAuthenticated) {
		for _, r := range reviews() {
			resources = append(resources, &authorizer.DefaultResourceRuleInfo{Verbs: []string{"create"}, APIGroups: []string{r.group}, Resources: []string{r.resource}})
		}
		paths = append(paths, &authorizer.DefaultNonResourceRuleInfo{Verbs: []string{"get"}, NonResourceURLs: discoveryPaths()})
	}
	return resources, paths, false, nil
}
