// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package enroll

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	apivalidation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/drover-io/drover/hub/store"
	"github.com/drover-io/drover/pki/jointoken"
	"github.com/drover-io/drover/shared/apis/fleet"
	"github.com/drover-io/drover/shared/wire"
)

// request spends a use of the token and stores the JoinRequest, or returns the
// one that the same key made before. Only a new one is recorded.
func (e *Enroll) request(r *http.Request, body *wire.JoinRequest, fingerprint string) (*fleet.JoinRequest, error) {
	ctx := r.Context()
	token, err := e.findToken(ctx, body.ID)
	if err != nil {
		return nil, err
	}
	// A key's own request outlives its token; only a new one needs a live token.
	if jointoken.SecretMatches(token.Status.SecretHash, body.Secret) {
		for _, u := range token.Status.Used {
			if u.Fingerprint != fingerprint {
				continue
			}
			jr, err := e.requests.Get(ctx, "", u.Request)
			if !errors.Is(err, store.ErrNotFound) {
				return jr, err
			}
		}
	}
	// Only who has the secret learns more than that, and a key that asks again
	// gets its request whatever else waits.
	earlier, err := checkToken(token, body.Secret, body.Cluster, fingerprint, time.Now())
	if err != nil {
		return nil, err
	}
	if earlier == nil {
		if err := e.checkPending(ctx); err != nil {
			return nil, err
		}
	}
	name, err := e.useToken(ctx, token, body.Secret, body.Cluster, fingerprint, requestName())
	if errors.Is(err, store.ErrNotFound) {
		return nil, errRefused("token was deleted")
	}
	if err != nil {
		return nil, err
	}
	rejoin, err := e.inUse(ctx, body.Cluster)
	if err != nil {
		return nil, err
	}
	jr := newRequest(name, token, body, fingerprint, host(r.RemoteAddr), rejoin)
	created, err := e.requests.Create(ctx, jr)
	if errors.Is(err, store.ErrExists) {
		return e.requests.Get(ctx, "", name)
	}
	if err == nil {
		e.recordRequest(r, created)
	}
	return created, err
}

// newRequest builds the JoinRequest. It is approved from the start only when
// the token says so for exactly this name and nobody holds the name.
func newRequest(name string, token *fleet.JoinToken, body *wire.JoinRequest, fingerprint, address string, rejoin bool) *fleet.JoinRequest {
	labels := map[string]string{}
	for k, v := range body.Labels {
		labels[k] = v
	}
	for k, v := range token.Spec.Labels {
		labels[k] = v
	}
	jr := &fleet.JoinRequest{
		TypeMeta:   metav1.TypeMeta{APIVersion: fleet.Group + "/" + fleet.Version, Kind: fleet.KindJoinRequest},
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: fleet.JoinRequestSpec{
			ClusterName: body.Cluster, Fingerprint: fingerprint, CSR: body.CSR, Token: token.Name,
			SourceAddress: address, Labels: labels, Facts: body.Facts, Rejoin: rejoin,
		},
		Status: fleet.JoinRequestStatus{Phase: fleet.PhasePending},
	}
	if token.Spec.AutoApprove && token.Spec.ClusterName == body.Cluster && !rejoin {
		jr.Spec.Approval = &fleet.Approval{Decision: fleet.Approve, Fingerprint: fingerprint, By: "token " + token.Name}
	}
	return jr
}

func (e *Enroll) inUse(ctx context.Context, cluster string) (bool, error) {
	_, err := e.identities.Get(ctx, "", cluster)
	if errors.Is(err, store.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

func (e *Enroll) checkPending(ctx context.Context) error {
	all, _, err := e.requests.List(ctx, store.Selection{})
	if err != nil {
		return fmt.Errorf("list join requests: %w", err)
	}
	pending := 0
	for _, jr := range all {
		if jr.Status.Phase == fleet.PhasePending {
			pending++
		}
	}
	if pending >= maxPending {
		ref := refuse(http.StatusTooManyRequests, wire.ReasonBusy, "%d join requests wait for a decision; ask the operator to decide", pending)
		ref.RetryAfter = time.Minute
		return ref
	}
	return nil
}

// CheckDecision says whether a person may put approval on a request. It is the
// rule behind every way to approve: command line, kubectl, dashboard.
func CheckDecision(jr *fleet.JoinRequest, approval *fleet.Approval) *field.Error {
	path := field.NewPath("spec", "approval")
	if jr.Spec.Approval != nil || jr.Status.Phase != fleet.PhasePending {
		return field.Forbidden(path, fmt.Sprintf("the request is already decided: phase %s", jr.Status.Phase))
	}
	switch approval.Decision {
	case fleet.Deny:
		return nil
	case fleet.Approve:
	default:
		return field.NotSupported(path.Child("decision"), approval.Decision, []string{fleet.Approve, fleet.Deny})
	}
	given := CleanFingerprint(approval.Fingerprint)
	if len(given) < minFingerprint {
		return field.Invalid(path.Child("fingerprint"), approval.Fingerprint,
			fmt.Sprintf("at least the first %d hex digits of the fingerprint that the agent printed are needed", minFingerprint))
	}
	if !strings.HasPrefix(jr.Spec.Fingerprint, given) {
		return field.Invalid(path.Child("fingerprint"), approval.Fingerprint,
			"this is not the key that asks to join: compare it with what `drover-agent` printed on that cluster, and deny the request if they differ")
	}
	if jr.Spec.Rejoin && !approval.Replace {
		return field.Forbidden(path.Child("replace"),
			fmt.Sprintf("cluster %s is already enrolled: approve with replace, which revokes the agent that holds the name", jr.Spec.ClusterName))
	}
	return nil
}

// CleanFingerprint drops what people and tools put between the digits.
func CleanFingerprint(s string) string {
	return strings.ToLower(strings.NewReplacer(":", "", " ", "", "-", "").Replace(strings.TrimSpace(s)))
}

func validLabels(labels map[string]string, bad func(string, ...any) error) error {
	if errs := apivalidation.ValidateLabels(labels, field.NewPath("labels")); len(errs) > 0 {
		return bad("%s", errs[0].Error())
	}
	return nil
}

func metaTime(t time.Time) *metav1.Time {
	m := metav1.NewTime(t.UTC().Truncate(time.Second))
	return &m
}
