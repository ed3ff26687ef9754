// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package hub

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"
	"k8s.io/client-go/rest"

	"github.com/drover-io/drover/hub/enroll"
	"github.com/drover-io/drover/pki/identity"
	"github.com/drover-io/drover/shared/wire"
)

// records reads the audit log through the API, oldest first.
func (r *running) records(query string) []auditv1.Event {
	r.t.Helper()
	hc, err := rest.HTTPClientFor(r.config())
	if err != nil {
		r.t.Fatal(err)
	}
	defer hc.CloseIdleConnections()
	resp, err := hc.Get(r.url + "/audit?" + query)
	if err != nil {
		r.t.Fatal(err)
	}
	defer resp.Body.Close()
	var list auditv1.EventList
	if err := json.NewDecoder(resp.Body).Decode(&list); err != nil || resp.StatusCode != http.StatusOK {
		r.t.Fatalf("%d: %v", resp.StatusCode, err)
	}
	slices.Reverse(list.Items)
	return list.Items
}

// line is what a record says, without what differs from run to run.
func line(ev auditv1.Event) string {
	return fmt.Sprintf("%s %s %s %d %s", ev.User.Username, ev.Verb, ev.ObjectRef.Resource, ev.ResponseStatus.Code, ev.ResponseStatus.Message)
}

// TestJoinsAreRecorded: who asked to join, who was let in and by whose word, who
// renewed, who was refused and whose certificates ended is in the audit log.
func TestJoinsAreRecorded(t *testing.T) {
	t.Parallel()
	r := start(t, t.TempDir(), nil)
	token := r.token("{clusterName: shop-1, autoApprove: true, uses: 1}")
	a := r.agent(token)
	st := a.join(token, "shop-1")
	a.join(token, "shop-1") // asks again, which is nothing new
	until(t, "joined", func() bool {
		a.do(http.MethodGet, wire.PathJoin+"/"+st.ID, nil, &st)
		return st.State == wire.JoinApproved
	})
	certs, err := identity.ParseCerts([]byte(st.Chain))
	if err != nil {
		t.Fatal(err)
	}
	a.cert = &tls.Certificate{PrivateKey: a.key, Leaf: certs[0]}
	for _, c := range certs {
		a.cert.Certificate = append(a.cert.Certificate, c.Raw)
	}
	csr, err := identity.NewRequest(a.key, "shop-1")
	if err != nil {
		t.Fatal(err)
	}
	var renewed wire.JoinState
	if code := a.do(http.MethodPost, wire.PathRenew, wire.RenewRequest{CSR: string(csr)}, &renewed); code != http.StatusOK {
		t.Fatalf("renew: %d", code)
	}

	// Somebody with a token that is used up.
	late := r.agent(token)
	csr, err = identity.NewRequest(late.key, "shop-1")
	if err != nil {
		t.Fatal(err)
	}
	var refusal wire.Refusal
	if code := late.do(http.MethodPost, wire.PathJoin, wire.JoinRequest{ID: token.ID, Secret: token.Secret, Cluster: "shop-1", CSR: string(csr)}, &refusal); code != http.StatusForbidden {
		t.Fatalf("a used-up token: %d", code)
	}

	if err := r.client().Resource(clusters()).Delete(timeout(t), "shop-1", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	until(t, "both certificates are revoked", func() bool { return len(r.records("verb=revoke")) == 2 })
	until(t, "the renewal is refused", func() bool {
		return a.do(http.MethodPost, wire.PathRenew, wire.RenewRequest{CSR: string(csr)}, &refusal) == http.StatusUnauthorized
	})

	join := r.records("verb=join")
	got := make([]string, len(join))
	for i, ev := range join {
		got[i] = line(ev)
	}
	want := []string{
		"system:anonymous join joinrequests 202 asks to join; approved by its token",
		"system:agent:shop-1 join agentidentities 201 certificate issued",
		"system:anonymous join joinrequests 403 join refused: token is used up",
	}
	if !slices.Equal(got, want) {
		t.Fatalf("joins:\n%s", strings.Join(got, "\n"))
	}
	asked, issued, refused := join[0], join[1], join[2]
	if asked.ObjectRef.Name != st.ID || asked.Annotations[enroll.AnnotationCluster] != "shop-1" || len(asked.SourceIPs) != 1 {
		t.Errorf("the request: %+v", asked)
	}
	if by := issued.Annotations[enroll.AnnotationApprovedBy]; !strings.HasPrefix(by, "token jt-") || by != asked.Annotations[enroll.AnnotationApprovedBy] {
		t.Errorf("approved by %q", by)
	}
	if issued.ObjectRef.Name != "shop-1" || issued.Annotations[enroll.AnnotationFingerprint] != identity.Fingerprint(a.key.Public()) {
		t.Errorf("the certificate: %+v", issued)
	}
	if refused.Annotations[enroll.AnnotationFingerprint] != identity.Fingerprint(late.key.Public()) {
		t.Errorf("the refusal: %+v", refused)
	}
	renewals := r.records("verb=renew")
	if len(renewals) < 2 || line(renewals[0]) != "system:agent:shop-1 renew agentidentities 200 certificate renewed" {
		t.Fatalf("renewals: %+v", renewals)
	}
	if last := renewals[len(renewals)-1]; last.User.Username != "system:agent:shop-1" || last.ResponseStatus.Code != http.StatusUnauthorized {
		t.Errorf("the refused renewal: %+v", last)
	}
	revoked := r.records("verb=revoke")
	for i, serial := range []string{issued.Annotations[enroll.AnnotationSerial], renewals[0].Annotations[enroll.AnnotationSerial]} {
		if serial == "" || revoked[i].Annotations[enroll.AnnotationSerial] != serial || line(revoked[i]) != "system:hub revoke agentidentities 200 certificate revoked: cluster removed" {
			t.Errorf("revoked: %+v, want serial %q", revoked[i], serial)
		}
	}
	for _, ev := range slices.Concat(join, renewals, revoked) {
		text, _ := json.Marshal(ev)
		if ev.Level != auditv1.LevelMetadata || strings.Contains(string(text), token.Secret) {
			t.Errorf("level %s, or a secret: %s", ev.Level, text)
		}
	}
}
