// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package api

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
)

// limiter bounds requests in flight.
type limiter chan struct{}

func newLimiter(n, fallback int) limiter {
	if n <= 0 {
		n = fallback
	}
	return make(limiter, n)
}

// admitLoad takes a place among the requests in flight; release gives it back.
func (c *call) admitLoad() (release func(), err error) {
	l := c.writes
	switch {
	case c.info.Verb == "watch" && c.info.IsResourceRequest:
		l = c.watches
	case c.r.Method == http.MethodGet || c.r.Method == http.MethodHead:
		l = c.reads
	}
	select {
	case l <- struct{}{}:
		return func() { <-l }, nil
	default:
		return nil, apierrors.NewTooManyRequests("too many requests in flight, try again", 1)
	}
}

// requestTimeout bounds any request that is not a watch; a slow reader may take
// twice as long to fetch the answer.
const requestTimeout = 60 * time.Second

// bound sets the deadlines of a request; the function returned takes them away.
func (c *call) bound() func() {
	if c.info.Verb == "watch" {
		return func() {}
	}
	ctx, cancel := context.WithTimeout(c.r.Context(), requestTimeout)
	c.r = c.r.WithContext(ctx)
	control := http.NewResponseController(c.w)
	// not every connection has deadlines, those of tests for example
	_ = control.SetReadDeadline(time.Now().Add(requestTimeout))
	_ = control.SetWriteDeadline(time.Now().Add(2 * requestTimeout))
	return func() {
		_ = control.SetReadDeadline(time.Time{})
		_ = control.SetWriteDeadline(time.Time{})
		cancel()
	}
}

// identify finds out who asks.
func (c *call) identify() error {
	who, ok, err := c.authenticator.AuthenticateRequest(c.r)
	switch {
	case err != nil:
		// about what the client showed itself, so it may know
		c.log.Debug("authentication failed", zap.String("remote", c.r.RemoteAddr), zap.Error(err))
		return apierrors.NewUnauthorized("Unauthorized: " + err.Error())
	case !ok || who == nil || who.User == nil:
		return apierrors.NewUnauthorized("Unauthorized: the request carries no credentials that the hub knows")
	}
	c.who = who
	for name := range c.r.Header {
		if strings.HasPrefix(name, "Impersonate-") {
			return c.forbidden("impersonation is not supported")
		}
	}
	return nil
}

// authorize asks whether the user may.
func (c *call) authorize() error {
	attrs := authorizer.AttributesRecord{
		User: c.who.User, Verb: c.info.Verb, Path: c.info.Path, ResourceRequest: c.info.IsResourceRequest,
		Namespace: c.info.Namespace, APIGroup: c.info.APIGroup, APIVersion: c.info.APIVersion,
		Resource: c.info.Resource, Subresource: c.info.Subresource, Name: c.info.Name,
	}
	if c.info.LabelSelector != "" {
		sel, err := labels.Parse(c.info.LabelSelector)
		if err == nil {
			attrs.LabelSelectorRequirements, _ = sel.Requirements()
		}
		attrs.LabelSelectorParsingErr = err
	}
	if c.info.FieldSelector != "" {
		sel, err := fields.ParseSelector(c.info.FieldSelector)
		if err == nil {
			attrs.FieldSelectorRequirements = sel.Requirements()
		}
		attrs.FieldSelectorParsingErr = err
	}
	decision, reason, err := c.authorizer.Authorize(c.r.Context(), attrs)
	if err != nil {
		return fmt.Errorf("authorize %s %s: %w", c.info.Verb, c.info.Path, err)
	}
	if decision == authorizer.DecisionAllow {
		return nil
	}
	return c.forbidden(reason)
}

// forbidden is 403 with Kubernetes' text.
func (c *call) forbidden(reason string) error {
	info, name := c.info, c.who.User.GetName()
	if !info.IsResourceRequest {
		return apierrors.NewForbidden(schema.GroupResource{}, "", fmt.Errorf("User %q cannot %s path %q%s", name, info.Verb, info.Path, because(reason)))
	}
	resource := info.Resource
	if info.Subresource != "" {
		resource += "/" + info.Subresource
	}
	scope := "at the cluster scope"
	if info.Namespace != "" {
		scope = fmt.Sprintf("in the namespace %q", info.Namespace)
	}
	return apierrors.NewForbidden(c.groupResource(), info.Name,
		fmt.Errorf("User %q cannot %s resource %q in API group %q %s%s", name, info.Verb, resource, info.APIGroup, scope, because(reason)))
}

func because(reason string) string {
	if reason == "" {
		return ""
	}
	return ": " + reason
}

func (c *call) groupResource() schema.GroupResource {
	if c.info == nil {
		return schema.GroupResource{}
	}
	return schema.GroupResource{Group: c.info.APIGroup, Resource: c.info.Resource}
}

func (c *call) user() user.Info { return c.who.User }

// fieldManager is the name under which field ownership is recorded: the one
// given, or the program of the user agent.
func (c *call) fieldManager(given string) string {
	if given != "" {
		return given
	}
	agent, _, _ := strings.Cut(c.r.UserAgent(), "/")
	agent = strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return -1
		}
		return r
	}, agent)
	if len(agent) > 128 {
		agent = agent[:128]
	}
	if agent == "" {
		return "unknown"
	}
	return agent
}

// warn adds a line for the person at the other end.
func (c *call) warn(text string) {
	const most = 64
	if len(c.warnings) < most && !slices.Contains(c.warnings, text) {
		c.warnings = append(c.warnings, text)
	}
}
