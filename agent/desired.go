// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/drover-io/drover/pki/identity"
	"github.com/drover-io/drover/shared/wire"
)

// maxSignatures bounds the work that one envelope can cause.
const maxSignatures = 4

// opener turns signed pages into what they say, if they are the hub's.
type opener struct {
	trust   identity.Trust
	cluster string
}

// page checks one envelope. A zero now asks whether it was ever good: for what was
// checked when it came.
func (o opener) page(env *wire.Envelope, now time.Time) (*wire.SignedDesired, error) {
	switch {
	case env == nil:
		return nil, errors.New("the list is not signed")
	case env.PayloadType != wire.PayloadDesired:
		return nil, fmt.Errorf("the signed payload is a %.100q, not a list", env.PayloadType)
	case len(env.Signatures) == 0 || len(env.Signatures) > maxSignatures:
		return nil, fmt.Errorf("the list has %d signatures, want 1 to %d", len(env.Signatures), maxSignatures)
	}
	chain, err := identity.ParseCerts([]byte(env.Chain))
	if err != nil {
		return nil, fmt.Errorf("the signer's certificate: %w", err)
	}
	message := wire.PAE(env.PayloadType, env.Payload)
	for _, s := range env.Signatures {
		if err = identity.VerifyDesired(message, s.Sig, chain, o.trust, now); err == nil {
			break
		}
	}
	if err != nil {
		return nil, err
	}
	var p wire.SignedDesired
	if err := json.Unmarshal(env.Payload, &p); err != nil {
		return nil, fmt.Errorf("decode the signed list: %w", err)
	}
	switch {
	case p.Cluster != o.cluster:
		return nil, fmt.Errorf("the signed list is that of cluster %.80q, not of %s", p.Cluster, o.cluster)
	case p.Epoch == "" || p.Pages < 1 || p.Pages > wire.MaxPages || p.Page < 0 || p.Page >= p.Pages:
		return nil, fmt.Errorf("the signed list is page %d of %d", p.Page, p.Pages)
	}
	return &p, nil
}

// list puts all pages of one generation together, in order.
func (o opener) list(pages []wire.Envelope, now time.Time) (wire.Desired, error) {
	var all wire.Desired
	if len(pages) == 0 {
		return all, errors.New("the list is not signed")
	}
	seen := map[string]bool{}
	for i := range pages {
		p, err := o.page(&pages[i], now)
		if err != nil {
			return wire.Desired{}, err
		}
		if i == 0 {
			all.Epoch, all.Generation = p.Epoch, p.Generation
		}
		if p.Page != i || p.Pages != len(pages) || p.Epoch != all.Epoch || p.Generation != all.Generation {
			return wire.Desired{}, errors.New("the pages of the list do not belong together")
		}
		for _, item := range p.Items {
			if item.UID == "" || item.Name == "" || seen[item.UID] {
				return wire.Desired{}, fmt.Errorf("the list names work %.80q twice or without a uid", item.Name)
			}
			seen[item.UID] = true
			all.Items = append(all.Items, item)
		}
	}
	if len(all.Items) > wire.MaxItems {
		return wire.Desired{}, fmt.Errorf("the list has %d works, at most %d", len(all.Items), wire.MaxItems)
	}
	return all, nil
}

// opener trusts the roots that the agent trusts now.
func (s *session) opener() opener {
	return opener{
		trust:   identity.Trust{TrustDomain: s.creds.home.TrustDomain, Roots: s.creds.current.Load().Roots},
		cluster: s.creds.home.Cluster,
	}
}

// loadDesired reads what was last taken over. A signed list is checked again: what
// somebody changed on the disk is not applied, and the hub is asked anew.
func (s *session) loadDesired() error {
	pages, file, err := s.dir.SignedDesired()
	if err != nil {
		return err
	}
	if len(pages) == 0 {
		s.desired, err = s.dir.Desired()
		return err
	}
	s.signed = true
	got, err := s.opener().list(pages, time.Time{})
	if err != nil {
		s.log.Error("the list of works on the disk is not what the hub signed: ignored, the hub is asked anew",
			zap.String("file", file), zap.Error(err))
		return nil
	}
	s.desired = got
	return nil
}

// errMoved: the list changed between two of its pages.
var errMoved = errors.New("the list changed while it was fetched")

// listTries is how often a list of several pages is fetched anew when it changes
// meanwhile; after that the next look does it.
const listTries = 3

// look asks the hub what the cluster should run and takes it over.
func (s *session) look(ctx context.Context) error {
	if s.engine == nil {
		return nil
	}
	err := errMoved
	for try := 0; errors.Is(err, errMoved) && try < listTries; try++ {
		err = s.lookOnce(ctx)
	}
	return err
}

func (s *session) lookOnce(ctx context.Context) error {
	s.mu.Lock()
	have, signed := s.desired, s.signed
	s.mu.Unlock()
	version := s.link.State().Version
	got, err := s.askDesired(ctx, wire.DesiredRequest{Epoch: have.Epoch, Generation: have.Generation, Version: version})
	switch {
	case err != nil:
		return err
	case got.Unchanged:
		return nil
	case got.Epoch == have.Epoch && got.Generation < have.Generation:
		return nil // an answer from the past, of a replica that lags
	}
	var save func() error
	switch {
	case got.Envelope != nil:
		var pages []wire.Envelope
		if got, pages, err = s.collect(ctx, got, version); err != nil {
			return err
		}
		if got.Epoch == have.Epoch && got.Generation < have.Generation {
			return nil
		}
		save = func() error { return s.dir.SaveSignedDesired(pages) }
	case version >= 2 || signed:
		// Who had a signed list once takes no other any more.
		return errors.New("the hub's list is not signed: nothing of it is applied")
	default:
		save = func() error { return s.dir.SaveDesired(got) }
	}
	if err := save(); err != nil {
		return fmt.Errorf("save desired state: %w", err)
	}
	s.mu.Lock()
	s.desired, s.signed = got, signed || version >= 2
	s.mu.Unlock()
	s.engine.Sync(got.Items)
	if got.Epoch != have.Epoch {
		// A hub with another history may know nothing of what was reported.
		for _, r := range s.engine.Reports() {
			s.report(r)
		}
	}
	return nil
}

// collect fetches the other pages of a list whose first page has come.
func (s *session) collect(ctx context.Context, first wire.Desired, version int) (wire.Desired, []wire.Envelope, error) {
	now := time.Now()
	open := s.opener()
	head, err := open.page(first.Envelope, now)
	if err != nil {
		return wire.Desired{}, nil, fmt.Errorf("check the list: %w", err)
	}
	if head.Page != 0 {
		return wire.Desired{}, nil, errMoved
	}
	pages := []wire.Envelope{*first.Envelope}
	for len(pages) < head.Pages {
		next, err := s.askDesired(ctx, wire.DesiredRequest{Page: len(pages), Version: version})
		if err != nil {
			return wire.Desired{}, nil, err
		}
		p, err := open.page(next.Envelope, now)
		if err != nil {
			return wire.Desired{}, nil, fmt.Errorf("check page %d of the list: %w", len(pages), err)
		}
		if p.Epoch != head.Epoch || p.Generation != head.Generation || p.Page != len(pages) || p.Pages != head.Pages {
			return wire.Desired{}, nil, errMoved
		}
		pages = append(pages, *next.Envelope)
	}
	all, err := open.list(pages, now)
	if err != nil {
		return wire.Desired{}, nil, fmt.Errorf("check the list: %w", err)
	}
	return all, pages, nil
}

func (s *session) askDesired(ctx context.Context, req wire.DesiredRequest) (wire.Desired, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	var got wire.Desired
	err := s.link.Request(ctx, wire.ServiceDesired, req, &got)
	if err == nil && got.Error != "" {
		err = errors.New(got.Error)
	}
	return got, err
}

// sendReports delivers reports, several at once when the hub knows how.
func (s *session) sendReports(ctx context.Context, _ []string, reports []wire.Report) ([]wire.Ack, error) {
	if s.link.State().Version < 2 || len(reports) == 1 {
		var ack wire.Ack
		err := s.link.Request(ctx, wire.ServiceReport, reports[0], &ack)
		return []wire.Ack{ack}, err
	}
	reports = fitting(reports)
	var acks wire.Acks
	err := s.link.Request(ctx, wire.ServiceReports, wire.Reports{Reports: reports}, &acks)
	switch {
	case err != nil:
		return nil, err
	case acks.Error != "":
		return nil, errors.New(acks.Error)
	case len(acks.Acks) != len(reports):
		return nil, fmt.Errorf("the hub answered %d of %d reports", len(acks.Acks), len(reports))
	}
	return acks.Acks, nil
}

// fitting is as many of the first reports as one message can hold, one at least.
func fitting(reports []wire.Report) []wire.Report {
	const room = wire.MaxPayload - 4096
	size := 0
	for i := range reports {
		text, err := json.Marshal(&reports[i])
		if size += len(text) + 1; i > 0 && (err != nil || size > room) {
			return reports[:i]
		}
	}
	return reports
}
