// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package identity

import "time"

// RenewAt returns how long after a certificate was received it is to be renewed:
// 2/3 of its lifetime, ± 10 % of that, so that a fleet which joined together does
// not renew together. random is a number in [0, 1). Wait on the monotonic clock:
// a wrong wall clock must not stop renewals.
func RenewAt(notBefore, notAfter time.Time, random float64) time.Duration {
	lifetime := notAfter.Sub(notBefore)
	if lifetime <= 0 {
		return 0
	}
	random = min(max(random, 0), 1)
	return time.Duration(float64(lifetime) * 2 / 3 * (0.9 + 0.2*random))
}
