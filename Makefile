# Needs Rust, Go, make and a C compiler. Everything else is built once, into the cache folder
# (DMS_OPERATOR_CACHE, else ~/.cache/dms-operator).

TARGET := $(or $(CARGO_TARGET_DIR),target)
CARGO ?= cargo
# Tests on real parts wait for them most of the time, so more of them run side by side than there are cores.
TEST_THREADS ?= 4
# The demo promises how long it takes, so it runs alone.
TIMED := demo::the_demo_ends_well_and_leaves_nothing
SECONDS_FILE := $(TARGET)/tmp/test-seconds

.DEFAULT_GOAL := help
.PHONY: help tools demo test features soak fuzz coverage mutants bench-capability bench-device bench-grants sabotage fmt crds chart

help: ## What can be made
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 24

tools: ## The commands that demo and tests run beside the operator, at pinned versions
	@tests/tools/build.sh

demo: TOOLS := $(if $(CLUSTER),kubectl,etcd kube-apiserver kube-controller-manager kubectl)
demo: ## A whole installation on this machine, from apply to delete; KEEP=1 leaves it running
	@tests/tools/check.sh demo $(TOOLS)
	@tests/tools/build.sh $(TOOLS)
	@$(CARGO) build $(if $(wildcard $(TARGET)/debug/dms-operator),-q) --features dev --bin dms-operator
	@$(TARGET)/debug/dms-operator demo $(if $(KEEP),--keep) $(if $(CLUSTER),--cluster $(CLUSTER))

test: ## Format, lints, unit tests, tests on real parts, the Go peer, the chart, the features
	@tests/tools/check.sh
	@tests/tools/build.sh
	@rm -f $(SECONDS_FILE)
	$(CARGO) fmt --check
	$(CARGO) clippy -q --features dev --all-targets -- -D warnings
	$(CARGO) build -q --features dev
	@if [ -f tests/interop/go.mod ]; then set -x; cd tests/interop && go vet ./... && go test ./...; fi
	$(CARGO) test -q --features dev --lib --bins
	$(CARGO) test -q --features dev --test it -- --exact $(TIMED)
	RUST_TEST_THREADS=$(TEST_THREADS) $(CARGO) test -q --features dev --test it -- --skip $(TIMED)
	RUST_TEST_THREADS=$(TEST_THREADS) $(CARGO) test -q --features dev --test bdd
	@tests/fuzz/run.sh 20
	@echo; echo "the ten slowest tests, in seconds:"; sort -rn $(SECONDS_FILE) | head -10

features: ## The use case alone, as tests/features says it; NAME=REGEX runs the scenarios of that name
	@tests/tools/check.sh
	@tests/tools/build.sh etcd kube-apiserver kube-controller-manager kubectl helm
	@RUST_TEST_THREADS=$(TEST_THREADS) $(CARGO) test -q --features dev --test bdd $(if $(NAME),-- --name '$(NAME)')

SOAK_SECONDS ?= 600
soak: ## Quiet deployments are not written; each fault for SOAK_SECONDS=600 on 20 devices with 100 deployments; 1000 devices; fuzz targets; every defence removed
	@tests/tools/check.sh
	@tests/tools/build.sh etcd kube-apiserver kube-controller-manager kubectl helm
	@$(CARGO) build -q --features dev
	DMS_OPERATOR_SOAK_SECONDS=$(SOAK_SECONDS) $(CARGO) test -q --features dev --test it soak:: -- --nocapture --test-threads 1
	@git diff --unified=0 docs/measurements.md | grep '^+|' | cut -c2-
	@tests/fuzz/run.sh $(SOAK_SECONDS)
	DMS_OPERATOR_FLEET=200 $(CARGO) test -q --features dev --test it fleet:: -- --nocapture
	DMS_OPERATOR_FLEET=1000 $(CARGO) test -q --features dev --test it fleet:: -- --nocapture
	@tests/sabotage/run.sh

SECONDS ?= 20
fuzz: ## Runs each fuzz target for SECONDS=20
	@tests/fuzz/run.sh $(SECONDS)

coverage: ## Which lines of src/capability its tests reach
	@tests/tools/capability.sh coverage

mutants: ## Which changes of chain, verdict and path algebra no test notices
	@tests/tools/capability.sh mutants

bench-capability: ## What a verdict costs, next to bare signatures and to biscuit: times, then ratios with spread
	@cd tests/bench && $(CARGO) bench -q --locked --bench capability

bench-device: ## What a message and a call to a device cost, next to libp2p in Go; what a connection costs
	@cd tests/bench && $(CARGO) bench -q --locked --bench device

bench-grants: ## How many grants one core gives in a second: median, tenth and ninetieth percentile
	@$(CARGO) bench -q --profile dev --config 'profile.dev.package.dms-operator.opt-level=2' --features dev --bench grants

sabotage: ## Removes one defence after the other: the test that holds it must fail
	@tests/tools/check.sh
	@tests/tools/build.sh
	@tests/sabotage/run.sh $(PATCH)

fmt: ## Formats the code
	$(CARGO) fmt

crds: ## Writes crds/ and the chart's copy from the types
	$(CARGO) run -q --features dev -- crd --out-dir crds
	cp crds/*.yaml charts/dms-operator/files/crds/

chart: ## Lints the chart and shows what it installs
	@tests/tools/build.sh helm
	@helm=$$(tests/tools/build.sh --path helm) && $$helm lint --strict charts/dms-operator && \
	  $$helm template dms-operator charts/dms-operator --namespace dms-operator
