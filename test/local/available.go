// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package local

import (
	"encoding/json"

	"k8s.io/apimachinery/pkg/api/meta"

	"github.com/drover-io/drover/shared/apis/cluster"
)

// availableIn looks for a cluster in the JSON of a list.
func availableIn(list, name string) (bool, error) {
	var all struct {
		Items []cluster.ManagedCluster `json:"items"`
	}
	if err := json.Unmarshal([]byte(list), &all); err != nil {
		return false, err
	}
	for _, c := range all.Items {
		if c.Name == name {
			return meta.IsStatusConditionTrue(c.Status.Conditions, cluster.ConditionAvailable), nil
		}
	}
	return false, nil
}
