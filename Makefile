# Each target is a plain command that also works typed by hand.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := test
TARGET := $(or $(CARGO_TARGET_DIR),target)
CORPUS ?= $(TARGET)/fuzz-corpus
# Everything is built by one cargo call, so that every program and test shares one set of dependencies.
BUILD := cargo build --locked --workspace --all-targets
RUN_TESTS := $(shell command -v cargo-nextest >/dev/null && echo 'cargo nextest run --locked --workspace --no-fail-fast' || echo 'cargo test --locked --workspace')

.PHONY: build assets demo test soak soak-stories soak-hour fuzz fuzz-coverage mutants fmt lint deny doc bench bench-idle image generate e2e e2e-chaos clean

build: ## Compile everything
	$(BUILD)

assets: build ## Get etcd, kube-apiserver, kube-controller-manager, kubectl and Prometheus (minutes once, then cached)
	$(TARGET)/debug/control-plane prepare

demo: assets ## A real rotation on a local control plane and a simulated cloud; DEMO_SECONDS=60 ends by itself
	DEMO_SECONDS=$(DEMO_SECONDS) $(TARGET)/debug/examples/demo

test: assets ## Every test
	$(RUN_TESTS)

soak: soak-stories soak-hour ## Random stories and every pair of faults, then an hour of rotations (hours)

SEEDS ?= 1000000
PAIRS ?= all
soak-stories: ## SEEDS=1000000 random stories, every fault and every pair of them, on all cores; PAIRS=1000 tries one pair of so many, PAIRS=3/20 a part of them
	EXPLORE_SEEDS=$(SEEDS) EXPLORE_FROM=$(or $(FROM),0) EXPLORE_SINGLES=all EXPLORE_PAIRS=$(PAIRS) cargo test --locked --profile soak --test it -- explore faults --nocapture

soak-hour: assets release ## The real program at SOAK_RATE=20 rotations a second for SOAK_SECONDS=3600; a table and a plot in SOAK_OUT
	OPERATOR=$(RELEASE)/appcode-operator SOAK_OUT=$(or $(SOAK_OUT),$(abspath $(TARGET))/soak) \
		cargo bench --locked --profile dev --bench soak

e2e: assets ## Only the tests on the real control plane
	cargo test --locked --test e2e

# Sizes of the long form; the tests of `make test` have short ones. There are 103 points and ways to be killed at one.
CHAOS := CHAOS_KILLS=300 CHAOS_POINTS=103 CHAOS_HAND_OVERS=50 CHAOS_OUTAGES=1 CHAOS_OUTAGE_SECONDS=120 CHAOS_LEASES=100

e2e-chaos: assets ## Hundreds of kills, hand-overs and long outages, in about half an hour
	env $(CHAOS) cargo test --locked --test e2e chaos:: -- --nocapture

# Only the operator itself is optimised for it, with all checks left in, so that the dependencies of the tests serve as they are.
fuzz: ## CASES=1000000 random cases of each fuzz target, on any toolchain; FUZZ_SEED=1 chooses others
	FUZZ_CASES=$(or $(CASES),1000000) cargo test --locked --config profile.dev.package.appcode-operator.opt-level=2 --test fuzz -- --nocapture

# The stable toolchain instruments; only sanitizers need a nightly one, and they look for what safe code cannot do.
fuzz-coverage: ## RUNS=1000000 cases of each of TARGETS="answer url", led by coverage (cargo-fuzz, a C++ compiler); CORPUS= keeps inputs
	for target in $(or $(TARGETS),answer intent record schedule scrub template url); do \
		mkdir -p $(abspath $(CORPUS))/$$target; \
		CARGO_TARGET_DIR=$(abspath $(TARGET)) cargo fuzz run --sanitizer none --release --debug-assertions $$target \
			$(abspath $(CORPUS))/$$target fuzz/seeds/$$target -- -runs=$(or $(RUNS),1000000) -timeout=10 -rss_limit_mb=1024 \
			-artifact_prefix=$(abspath $(CORPUS))/$$target- -print_final_stats=1 $(FUZZ_OPTIONS); \
	done

# Few cases, always the same and not shrunk: a mutant that only chance would find is one that a table should find.
MUTANTS := PROPTEST_CASES=100 PROPTEST_RNG_SEED=1 PROPTEST_MAX_SHRINK_ITERS=0

mutants: ## Every small change of what decides, which a unit test has to notice (cargo-mutants, half a day); SHARD=0/8 tries some
	env $(MUTANTS) cargo mutants --no-shuffle --timeout 60 --output $(TARGET) $(if $(SHARD),--sharding round-robin --shard $(SHARD))

fmt: ## Format the code
	cargo fmt --all

lint: ## Format check, clippy, shellcheck, actionlint, dependencies
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	@if command -v shellcheck >/dev/null; then shellcheck .ci/run $$(git ls-files '*.sh'); else echo 'lint: shellcheck is not installed, scripts were not checked'; fi
	@if command -v actionlint >/dev/null; then actionlint; else echo 'lint: actionlint is not installed, workflows were not checked'; fi
	@$(MAKE) --no-print-directory deny

deny: ## Licences, advisories and bans, where cargo-deny and its database are reachable
	@if ! command -v cargo-deny >/dev/null; then echo 'deny: cargo-deny is not installed, dependencies were not checked'; \
	elif ! cargo deny --locked fetch db >/dev/null 2>&1; then cargo deny --locked check licenses bans sources; echo 'deny: the advisory database is not reachable, advisories were not checked'; \
	else cargo deny --locked check; fi

doc: ## The API docs, without warnings
	RUSTDOCFLAGS='-D warnings' cargo doc --locked --no-deps --workspace

# What is measured is built for release, without what only tests need; what measures is not.
RELEASE := $(abspath $(TARGET))/release

.PHONY: release
release:
	cargo build --release --locked --package appcode-operator --bin appcode-operator --package default-controller --bin default-controller

bench: bench-idle ## Every measurement of costs

bench-idle: assets release ## Costs at rest and of a start, RESOURCES=1000,10000, beside FOREIGN=30000 Secrets of others
	OPERATOR=$(RELEASE)/appcode-operator PEER=$(RELEASE)/default-controller cargo bench --locked --profile dev --bench idle

IMAGE := appcode-operator:$(shell sed -n 's/^version = "\(.*\)"$$/\1/p' Cargo.toml | head -n 1)
image: ## The container image, by docker, podman or buildah
	@tool=$$(command -v docker || command -v podman || command -v buildah) || { echo 'image: install docker, podman or buildah'; exit 1; }; \
	set -x; $$tool build --tag $(IMAGE) .

generate: ## Rewrite what is derived: the CRD and the table of metrics from the code, the chart's copy of it, the table of the chart's values
	cargo run --quiet --locked --bin crdgen > crds/appcoderotations.yaml.new
	mv crds/appcoderotations.yaml.new crds/appcoderotations.yaml
	cargo run --quiet --locked --bin metricsgen < docs/metrics.md > docs/metrics.md.new
	mv docs/metrics.md.new docs/metrics.md
	python3 deploy/helm/generate.py

clean: ## Remove what was built
	cargo clean
