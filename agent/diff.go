// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/drover-io/drover/agent/link"
	"github.com/drover-io/drover/shared/wire"
)

// diffTimeout bounds one comparison: the hub has given up by then.
const diffTimeout = 60 * time.Second

// differ compares content with the cluster by server-side dry-run and changes
// nothing.
type differ interface {
	Diff(ctx context.Context, request wire.DiffRequest) (wire.DiffAnswer, error)
}

// services are the hub's requests that this agent answers.
func (s *session) services() map[string]link.Handler {
	return map[string]link.Handler{wire.DownDiff: s.serveDiff}
}

func (s *session) serveDiff(ctx context.Context, request []byte) []byte {
	var req wire.DiffRequest
	if err := json.Unmarshal(request, &req); err != nil {
		return encodeDiff(wire.DiffAnswer{Error: "the request cannot be read: " + err.Error()})
	}
	d, ok := any(s.engine).(differ)
	switch {
	case s.engine == nil:
		return encodeDiff(wire.DiffAnswer{Error: "a node agent has no cluster to compare with"})
	case !ok:
		return encodeDiff(wire.DiffAnswer{Error: "this agent cannot compare: upgrade it"})
	}
	ctx, cancel := context.WithTimeout(ctx, diffTimeout)
	defer cancel()
	answer, err := d.Diff(ctx, req)
	if err != nil {
		answer.Error = err.Error()
	}
	return encodeDiff(answer)
}

// maxDiffFields is how many fields of one object travel when an answer has to be
// cut; then none do, and at last only a part of the objects.
const maxDiffFields = 5

// encodeDiff cuts an answer down until it fits a message.
func encodeDiff(answer wire.DiffAnswer) []byte {
	const room = wire.MaxPayload - 4096
	for _, fields := range []int{1 << 30, maxDiffFields, 0} {
		for i := range answer.Objects {
			o := &answer.Objects[i]
			o.Fields = o.Fields[:min(len(o.Fields), fields)]
		}
		if data, err := json.Marshal(answer); err == nil && len(data) <= room {
			return data
		}
	}
	data, err := json.Marshal(wire.DiffAnswer{Error: fmt.Sprintf("the comparison of %d objects does not fit a message", len(answer.Objects))})
	if err != nil {
		return nil
	}
	return data
}
