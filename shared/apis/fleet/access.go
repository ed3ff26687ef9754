// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package fleet

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// Kinds of who may ask the hub, beside client certificates and identity
// providers.
const (
	KindAccessToken = "AccessToken"
	KindSession     = "Session"

	ResourceAccessTokens = "accesstokens." + Group
	ResourceSessions     = "sessions." + Group
)

// AccessToken lets a program ask the hub as a user. The object's name is part of
// the token; the secret exists in the answer to the create call and nowhere else.
// Deleting the object revokes the token.
type AccessToken struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   AccessTokenSpec   `json:"spec"`
	Status AccessTokenStatus `json:"status,omitempty"`
}

// AccessTokenSpec cannot be changed after creation.
type AccessTokenSpec struct {
	// User and Groups are whom the holder is taken for. Who creates the token must
	// be that user with those groups, or be permitted to impersonate them.
	User   string   `json:"user"`
	Groups []string `json:"groups,omitempty"`
	// TTLSeconds is the life of the token, default 7776000 (90 days), at most
	// 31536000 (a year).
	TTLSeconds  int64  `json:"ttlSeconds,omitempty"`
	Description string `json:"description,omitempty"`
}

// AccessTokenStatus is kept by the hub.
type AccessTokenStatus struct {
	// Token is the whole token, only ever present in the answer to create.
	Token string `json:"token,omitempty"`
	// SecretHash is the lower-hex SHA-256 of the secret.
	SecretHash string       `json:"secretHash,omitempty"`
	Expires    *metav1.Time `json:"expires,omitempty"`
	CreatedBy  string       `json:"createdBy,omitempty"`
	// LastUsed is exact to an hour.
	LastUsed *metav1.Time `json:"lastUsed,omitempty"`
}

// Session is one browser that is logged in. The hub makes it at a login; deleting
// it ends the session.
type Session struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   SessionSpec   `json:"spec"`
	Status SessionStatus `json:"status,omitempty"`
}

// Ways to log in to a Session.
const (
	SessionByIssuer      = "Issuer"      // with an identity provider
	SessionByCertificate = "Certificate" // with a link made by the holder of a client certificate
)

// SessionSpec is what was known at the login.
type SessionSpec struct {
	User   string              `json:"user"`
	Groups []string            `json:"groups,omitempty"`
	Extra  map[string][]string `json:"extra,omitempty"`
	Method string              `json:"method"`
	// Issuer is the name of the identity provider, if there was one.
	Issuer        string `json:"issuer,omitempty"`
	SourceAddress string `json:"sourceAddress,omitempty"`
	UserAgent     string `json:"userAgent,omitempty"`
}

// SessionStatus is kept by the hub.
type SessionStatus struct {
	// SecretHash is the lower-hex SHA-256 of the secret in the cookie.
	SecretHash string       `json:"secretHash,omitempty"`
	Expires    *metav1.Time `json:"expires,omitempty"`
	// LastSeen is exact to a twentieth of the time after which an unused session ends.
	LastSeen *metav1.Time `json:"lastSeen,omitempty"`
}
