// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

// Package identity is what both ends of the connection know about who is who:
// names and their URIs, keys and certificate requests, the agent's check of the
// hub, the hub's check of a client, and the agent's credential files.
//
// An identity is exactly one URI in a certificate, spiffe://<trust-domain>/…, and
// is compared whole. It uses the standard library only, because agents link it.
package identity

import (
	"crypto/x509"
	"fmt"
	"net/url"
	"regexp"
	"strings"
)

// Kind says what an identity is. It is the first path element of its URI.
type Kind string

// The kinds. Clusters and users are clients, hub and api are servers, desired
// signs what clusters should run.
const (
	KindCluster Kind = "cluster"
	KindUser    Kind = "user"
	KindHub     Kind = "hub"
	KindAPI     Kind = "api"
	KindDesired Kind = "desired"
)

const (
	scheme     = "spiffe"
	maxDomain  = 200
	maxGroup   = 64 // ub-organization-name of RFC 5280
	maxDisplay = 80
)

var (
	nameRE   = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`)
	userRE   = regexp.MustCompile(`^[a-z0-9]([-a-z0-9_.@]{0,126}[a-z0-9])?$`)
	domainRE = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?(\.[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)*$`)
)

// ValidName reports what is wrong with a cluster name. A valid name is one DNS
// label in lower case, which is also exactly one NATS token: a name with a dot, a
// star or a slash would reach into another cluster's subjects.
func ValidName(name string) error {
	if !nameRE.MatchString(name) {
		return fmt.Errorf("cluster name %s is not valid: use 1 to 63 of a-z, 0-9 and '-', not '-' first or last", shown(name))
	}
	return nil
}

// ValidUserName reports what is wrong with the name of a user certificate. There
// is no ':' in it, so that nobody can be a "system:" user.
func ValidUserName(name string) error {
	if !userRE.MatchString(name) {
		return fmt.Errorf("user name %s is not valid: use 1 to 128 of a-z, 0-9, '-', '_', '.' and '@', a letter or digit first and last", shown(name))
	}
	return nil
}

// ValidGroup reports what is wrong with a group of a user certificate.
func ValidGroup(group string) error {
	if group == "" || len(group) > maxGroup || strings.IndexFunc(group, func(r rune) bool { return r <= ' ' || r > '~' }) >= 0 {
		return fmt.Errorf("group %s is not valid: use 1 to %d printable ASCII characters without spaces", shown(group), maxGroup)
	}
	return nil
}

// ValidTrustDomain reports what is wrong with a trust domain.
func ValidTrustDomain(td string) error {
	if len(td) > maxDomain || !domainRE.MatchString(td) {
		return fmt.Errorf("trust domain %s is not valid: use a DNS name in lower case of at most %d characters", shown(td), maxDomain)
	}
	return nil
}

// shown quotes foreign text for an error, cut to a length that fits a log line.
func shown(text string) string {
	if len(text) > maxDisplay {
		return fmt.Sprintf("%q… (%d characters)", text[:maxDisplay], len(text))
	}
	return fmt.Sprintf("%q", text)
}

// HubName is the DNS name of the hub's agent side: agents send it as SNI and
// expect it in the hub's certificate, whatever the address in the URL is.
func HubName(td string) string { return "hub." + td }

// APIName is the DNS name of the hub's side for people with client certificates.
func APIName(td string) string { return "api." + td }

// ClusterURI is the identity of an agent.
func ClusterURI(td, name string) *url.URL { return clientURI(td, KindCluster, name) }

// UserURI is the identity of a person or tool.
func UserURI(td, name string) *url.URL { return clientURI(td, KindUser, name) }

// HubURI is the identity of the hub towards agents.
func HubURI(td string) *url.URL {
	return &url.URL{Scheme: scheme, Host: td, Path: "/" + string(KindHub)}
}

// APIURI is the identity of the hub towards people.
func APIURI(td string) *url.URL {
	return &url.URL{Scheme: scheme, Host: td, Path: "/" + string(KindAPI)}
}

func clientURI(td string, kind Kind, name string) *url.URL {
	return &url.URL{Scheme: scheme, Host: td, Path: "/" + string(kind) + "/" + name}
}

// ParseClusterID returns the cluster name of an agent's URI.
func ParseClusterID(td string, u *url.URL) (string, error) {
	kind, name, err := ParseClientID(td, u)
	if err != nil {
		return "", err
	}
	if kind != KindCluster {
		return "", fmt.Errorf("identity %s is not a cluster's", shown(u.String()))
	}
	return name, nil
}

// ParseClientID returns kind and name of a client's URI: a cluster's or a user's.
// The whole URI must be the one that ClusterURI or UserURI makes of the result,
// so no escape, port, query or further element gets through.
func ParseClientID(td string, u *url.URL) (Kind, string, error) {
	if u == nil {
		return "", "", fmt.Errorf("no identity")
	}
	parts := strings.Split(u.Path, "/")
	if len(parts) != 3 || parts[0] != "" {
		return "", "", fmt.Errorf("identity %s is not spiffe://%s/cluster/<name> or …/user/<name>", shown(u.String()), td)
	}
	kind, name := Kind(parts[1]), parts[2]
	var err error
	switch kind {
	case KindCluster:
		err = ValidName(name)
	case KindUser:
		err = ValidUserName(name)
	default:
		err = fmt.Errorf("identity %s is neither a cluster's nor a user's", shown(u.String()))
	}
	if err != nil {
		return "", "", err
	}
	if !sameURI(u, clientURI(td, kind, name)) {
		return "", "", fmt.Errorf("identity %s is not of trust domain %s", shown(u.String()), td)
	}
	return kind, name, nil
}

// sameURI compares every field, because String alone hides an empty query.
func sameURI(got, want *url.URL) bool {
	return got.User == nil && got.Opaque == "" && got.Scheme == want.Scheme && got.Host == want.Host &&
		got.Path == want.Path && got.RawPath == "" && !got.OmitHost && !got.ForceQuery && got.RawQuery == "" &&
		got.Fragment == "" && got.RawFragment == ""
}

// onlyURI returns the single URI of a certificate that has no other.
func onlyURI(cert *x509.Certificate) (*url.URL, error) {
	if n := len(cert.URIs); n != 1 {
		return nil, fmt.Errorf("certificate has %d URIs, want exactly 1", n)
	}
	return cert.URIs[0], nil
}
