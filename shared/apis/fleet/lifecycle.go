// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package fleet

// FinalizerNamespace holds a Namespace that is being deleted until it is empty.
const FinalizerNamespace = Group + "/namespace-contents"
