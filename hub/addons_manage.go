// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package hub

import (
	"net/http"

	"github.com/drover-io/drover/hub/catalog/manage"
)

// addManagement adds the management API of datastore versions, a face of api.
func addManagement(mux *http.ServeMux, api http.Handler) {
	mux.Handle(manage.Prefix, manage.New(api))
}
