# Copyright The Drover Authors.
# SPDX-License-Identifier: Apache-2.0

SHELL       := bash
GO          ?= go
VERSION     ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo v0.0.0-dev)
# Databases that the CA's library would link and Drover does not use.
TAGS        := nobadger,nomysql,nopgx
LDFLAGS     := -s -w -X github.com/drover-io/drover/shared/daemon.version=$(VERSION)
BUILD       := CGO_ENABLED=0 $(GO) build -trimpath -tags $(TAGS) -ldflags "$(LDFLAGS)"
GOTEST      := $(GO) test -tags $(TAGS)
# Packages whose tests run the real programs; they are built without the race detector.
PROGRAMS    := $(addsuffix /...,$(addprefix ./test/,e2e kube informers signin conformance chaos browser))
# Charts of others: needs the module proxy, and minutes to build the commands of Helm and kustomize.
ECOSYSTEM   := ./test/ecosystem/...

.DEFAULT_GOAL := help

.PHONY: help
help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: demo
demo: build ## the main job, end to end, on this machine; Ctrl-C ends all it started
	@$(GO) run ./test/demo $(DEMO)

.PHONY: build
build: ## bin/drover-hub, bin/drover-agent and bin/drover
	@mkdir -p bin
	@test -e bin/drover-hub || echo "building the programs; the first time takes some minutes"
	@$(BUILD) -o bin/ ./hub/cmd/drover-hub ./agent/cmd/drover-agent ./hub/cmd/drover

.PHONY: ui
ui: ## hub/web/dist, the dashboard as browsers load it
	@$(GO) run ./hub/web/build

.PHONY: ui-watch
ui-watch: ## the same after every change; run the hub with serve --ui-dir hub/web/dist
	@$(GO) run ./hub/web/build -watch

.PHONY: kubernetes
kubernetes: ## bin/kubetest, a real Kubernetes control plane for tests and the demo
	@test/kubernetes/build.sh bin/kubetest

.PHONY: openid
openid: ## bin/openidtest, a real identity provider for tests
	@test/openid/build.sh bin/openidtest

.PHONY: registry
registry: ## bin/registrytest, a real OCI registry for tests
	@test/registry/build.sh bin/registrytest

.PHONY: test
test: kubernetes openid registry vet ## every test
	$(GOTEST) -race -timeout 25m $$($(GO) list -tags $(TAGS) ./... | grep -vFx "$$($(GO) list -tags $(TAGS) $(PROGRAMS) $(ECOSYSTEM))")
	$(GOTEST) -timeout 25m $(PROGRAMS)

.PHONY: test-short
test-short: ## tests that need neither Kubernetes nor minutes
	$(GOTEST) -short ./...

.PHONY: e2e
e2e: kubernetes ## the real programs against a real Kubernetes
	$(GOTEST) -timeout 25m -v ./test/e2e/...

.PHONY: browser
browser: kubernetes ## the dashboard in a real Chromium, against the real programs
	$(GOTEST) -timeout 25m -v ./test/browser

.PHONY: screenshots
screenshots: build kubernetes ## OUT (bin/screenshots): every page of the dashboard; SHOTS=busy-fleet for some of them
	@$(GO) run ./test/browser/shots -out '$(or $(OUT),bin/screenshots)' -only '$(SHOTS)'

.PHONY: bench
bench: build kubernetes ## figures: latency, memory, start time, sizes
	@$(GO) run ./test/bench $(BENCH)

.PHONY: bench-dashboard
bench-dashboard: build ## figures: frames of the dashboard while a fleet changes, and its first load
	@$(GOTEST) -run '^$$' -bench Table -benchtime 20x ./hub/live
	@$(GO) run ./test/browser/frames $(BENCH)

.PHONY: bench-api
bench-api: build kubernetes ## figures: the API beside a real kube-apiserver with etcd, and batches in the process
	@$(GOTEST) -run '^$$' -bench 'Batch' -benchtime 3s ./hub/store
	@$(GO) run ./test/bench/api $(BENCH)

.PHONY: bench-delivery
bench-delivery: build kubernetes ## figures: works on their way to a cluster; OCM=DIR measures Open Cluster Management beside
	@$(GO) run ./test/bench/delivery $(if $(OCM),-ocm $(OCM)) $(BENCH)

.PHONY: bench-catalog
bench-catalog: build ## figures: a catalog of 500 addons and 20 versions each, 1,000 clusters, hostile content
	@$(GO) run ./test/bench/catalog $(BENCH)

.PHONY: ecosystem
ecosystem: kubernetes ## charts and manifests of others: as their own commands render them, and on a real Kubernetes
	$(GOTEST) -timeout 40m -v $(ECOSYSTEM)

.PHONY: chaos
chaos: kubernetes ## SEEDS (default 1000) random plans under kills and cuts, from seed FIRST (default: of the clock)
	$(GOTEST) -timeout 3h -v ./test/chaos -seeds $(or $(SEEDS),1000) -first-seed $(or $(FIRST),0)

.PHONY: fuzz
fuzz: ## every fuzz target for FUZZTIME (default 20s) each
	@for p in $$(grep -rl --include=*_test.go '^func Fuzz' hub agent pki shared | xargs -n1 dirname | sort -u); do \
	  for f in $$(grep -ho '^func Fuzz[A-Za-z0-9]*' $$p/*_test.go | sed 's/func //'); do \
	    $(GOTEST) -run '^$$' -fuzz "^$$f$$" -fuzztime $(or $(FUZZTIME),20s) ./$$p || exit 1; done; done

.PHONY: vet
vet: ## go vet, staticcheck, formatting
	$(GO) vet -tags $(TAGS) ./...
	$(GO) tool staticcheck -tags $(TAGS) ./...
	@out=$$($(GO) tool gofumpt -l hub agent shared pki test); test -z "$$out" || { echo "not formatted (make fmt):"; echo "$$out"; exit 1; }

.PHONY: vulns
vulns: ## known vulnerabilities in what is called (needs the vulnerability database)
	$(GO) tool govulncheck -tags $(TAGS) ./...

.PHONY: fmt
fmt: ## format all Go code
	$(GO) tool gofumpt -w hub agent shared pki test

.PHONY: clean
clean: ## remove bin
	rm -rf bin
