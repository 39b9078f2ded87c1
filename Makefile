# Every command of the project. `make` alone lists them.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.NOTPARALLEL:

# The first interpreter that runs and is new enough; override with `make PYTHON=/path/to/python`.
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3.14 python3; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)
VENV := .venv
BIN := $(VENV)/bin
PEERS := .cache/peers
PIP := -m pip --disable-pip-version-check --quiet
PYTEST := $(BIN)/python -m pytest

# One target directory and one interpreter for cargo and maturin, so that nothing is built twice.
export PYO3_PYTHON := $(CURDIR)/$(BIN)/python
unexport VIRTUAL_ENV

.PHONY: help
help: ## list the commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 16

# ---------------------------------------------------------------- environment

# `make demo` needs only what builds the extension; everything else needs the group `all`.
$(VENV)/.build: pyproject.toml
	@[ -n "$(PYTHON)" ] || { echo "Python 3.11 or newer is needed; name one with PYTHON=..." >&2; exit 1; }
	@command -v cargo >/dev/null || { echo "A Rust toolchain is needed: https://rustup.rs" >&2; exit 1; }
	[ -x $(BIN)/python ] || $(PYTHON) -m venv $(VENV)
	$(BIN)/python $(PIP) install --upgrade 'pip>=25.1'
	$(BIN)/python $(PIP) install --group build
	touch $@

$(VENV)/.dev: $(VENV)/.build
	$(BIN)/python $(PIP) install --group all
	touch $@

# The peers of tests/interop. In Python, each has an environment of its own; all programs are built
# from what stands in tests/interop/peers, with the versions that the lock files there name.
PEER_SOURCES := tests/interop/peers
GO_SOURCES := $(shell find $(PEER_SOURCES)/webtransport-go -type f)
RUST_SOURCES := $(shell find $(PEER_SOURCES)/rust -name '*.rs' -o -name 'Cargo.*')

$(PEERS)/%/.installed: $(PEER_SOURCES)/requirements/%.txt
	@[ -n "$(PEER_PYTHON)" ] || { echo "$*: Python 3.12 or newer is needed; name one with NEWER_PYTHON=..." >&2; exit 1; }
	[ -x $(@D)/bin/python ] || $(PEER_PYTHON) -m venv $(@D)
	$(@D)/bin/python $(PIP) install -r $<
	touch $@

PEER_PYTHON = $(PYTHON)
# Some peers need Python 3.12; pyenv keeps its interpreters off the path.
NEWER_PYTHON ?= $(shell for p in python3.12 python3.13 python3.14 python3 \
	$$(ls -d $${PYENV_ROOT:-$$HOME/.pyenv}/versions/3.1[2-9].*/bin/python 2>/dev/null); do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 12))' 2>/dev/null && { echo $$p; break; }; done)
$(PEERS)/pywebtransport-0.21.1/.installed: PEER_PYTHON = $(NEWER_PYTHON)
$(PEERS)/web-transport-quinn-0.1/.installed: PEER_PYTHON = $(NEWER_PYTHON)
$(PEERS)/channels-webtransport-0.0.1/.installed: PEER_PYTHON = $(NEWER_PYTHON)

.PHONY: go
go:
	@command -v go >/dev/null && exit 0; \
	if command -v apt-get >/dev/null; then \
		sudo=; [ "$$(id -u)" = 0 ] || sudo=sudo; \
		$$sudo apt-get update -qq && \
		DEBIAN_FRONTEND=noninteractive $$sudo apt-get install -y -qq --no-install-recommends golang-go; fi; \
	command -v go >/dev/null || { echo "Go is needed for the peers of tests/interop: install it." >&2; exit 1; }

$(PEERS)/webtransport-go-0.13: $(GO_SOURCES) | go
	cd $(PEER_SOURCES)/webtransport-go && go build -o $(CURDIR)/$@ .

$(PEERS)/webtransport-go-0.9: $(GO_SOURCES) | go
	cd $(PEER_SOURCES)/webtransport-go && go build -modfile=v0.9.mod -tags v09 -o $(CURDIR)/$@ .

$(PEERS)/webtransport-go-runner: $(GO_SOURCES) | go
	cd $(PEER_SOURCES)/webtransport-go && go build -o $(CURDIR)/$@ ./runner

$(PEERS)/rust/.built: $(RUST_SOURCES)
	cargo build --locked --quiet --manifest-path $(PEER_SOURCES)/rust/Cargo.toml --target-dir $(@D)
	touch $@

PYTHON_PEERS := pywebtransport-0.8.1 pywebtransport-0.21.1 web-transport-quinn-0.1 peregrine-server-1.2 \
	channels-webtransport-0.0.1

.PHONY: peers
peers: $(addprefix $(PEERS)/webtransport-go-,0.13 0.9 runner) $(PEERS)/rust/.built \
	$(addprefix $(PEERS)/,$(addsuffix /.installed,$(PYTHON_PEERS)))

# The contenders of benches/peers that are no interop peers: release builds.
BENCH := .cache/bench
$(BENCH)/webtransport-go: $(wildcard benches/peers/webtransport-go/*) | go
	cd benches/peers/webtransport-go && go build -o $(CURDIR)/$@ .

$(BENCH)/rust/.built: $(wildcard benches/peers/wtransport/Cargo.* benches/peers/wtransport/src/*)
	cargo build --release --locked --quiet --manifest-path benches/peers/wtransport/Cargo.toml --target-dir $(@D)
	touch $@

$(BENCH)/ceiling/.built: $(wildcard benches/peers/ceiling/Cargo.* benches/peers/ceiling/src/*)
	cargo build --release --locked --quiet --manifest-path benches/peers/ceiling/Cargo.toml --target-dir $(@D)
	touch $@

.PHONY: contenders
contenders: $(BENCH)/webtransport-go $(BENCH)/rust/.built $(BENCH)/ceiling/.built \
	$(addprefix $(PEERS)/,$(addsuffix /.installed,$(filter-out channels%,$(PYTHON_PEERS))))

.PHONY: chromium
chromium:
	@for b in "$${CHROMIUM:-}" chromium chromium-browser google-chrome; do \
		[ -n "$$b" ] && command -v "$$b" >/dev/null && exit 0; done; \
	if ! command -v apt-get >/dev/null; then \
		echo "Chromium is needed for the browser tests, and there is no apt-get to install it with." >&2; \
		echo "Install it, or name one with CHROMIUM=/path/to/chromium." >&2; exit 1; fi; \
	sudo=; [ "$$(id -u)" = 0 ] || sudo=sudo; \
	$$sudo apt-get update -qq && \
	DEBIAN_FRONTEND=noninteractive $$sudo apt-get install -y -qq --no-install-recommends chromium

.PHONY: firefox
firefox:
	@for b in "$${FIREFOX:-}" firefox-esr firefox; do \
		[ -n "$$b" ] && command -v "$$b" >/dev/null && exit 0; done; \
	if ! command -v apt-get >/dev/null; then \
		echo "Firefox is needed for tests/interop, and there is no apt-get to install it with." >&2; \
		echo "Install it, or name one with FIREFOX=/path/to/firefox." >&2; exit 1; fi; \
	sudo=; [ "$$(id -u)" = 0 ] || sudo=sudo; \
	$$sudo apt-get update -qq && \
	DEBIAN_FRONTEND=noninteractive $$sudo apt-get install -y -qq --no-install-recommends firefox-esr

# Redis and NATS servers for the tests of PubSub: Debian's, or for NATS the one that Go builds.
.PHONY: brokers
brokers:
	@export PATH="$$PATH:/usr/sbin:$(CURDIR)/.cache/bin"; \
	missing=; for b in redis-server nats-server; do command -v $$b >/dev/null || missing="$$missing $$b"; done; \
	[ -z "$$missing" ] && exit 0; \
	if command -v apt-get >/dev/null; then \
		sudo=; [ "$$(id -u)" = 0 ] || sudo=sudo; \
		$$sudo apt-get update -qq && for b in $$missing; do \
			DEBIAN_FRONTEND=noninteractive $$sudo apt-get install -y -qq --no-install-recommends $$b \
				|| echo "$$b has no package here" >&2; done; fi; \
	if ! command -v nats-server >/dev/null && command -v go >/dev/null; then \
		GOBIN="$(CURDIR)/.cache/bin" go install github.com/nats-io/nats-server/v2@latest; fi; \
	for b in redis-server nats-server; do command -v $$b >/dev/null || { \
		echo "$$b is needed for the tests of PubSub: install it." >&2; exit 1; }; done

# ---------------------------------------------------------------- build and demo

# The compiler knows what the extension does most from a profile, which is for one target and one
# version of the compiler; with others the extension is built without, and is slower. Cargo sees by
# the number that it is another profile. Functions that have changed since are built without theirs.
RUST_TARGET ?= $(shell rustc -vV | sed -n 's/^host: //p')
COMPILER = $(shell rustc -vV | sed -n 's/^release: //p')
PROFILE = rust/profile/$(RUST_TARGET)-$(COMPILER).profdata
PROFILE_FLAGS = $(if $(wildcard $(PROFILE)),-Cprofile-use=$(CURDIR)/$(PROFILE) $(NO_VALUES) \
	-Cllvm-args=-no-pgo-warn-mismatch --cfg=profile_$(firstword $(shell cksum $(PROFILE))))
# Values cannot be counted by processes that are killed, only branches.
NO_VALUES := -Cllvm-args=-disable-vp
# Where the sources lie on this machine makes no other extension.
SAME_PATHS = --remap-path-prefix=$${CARGO_HOME:-$$HOME/.cargo}=cargo
RELEASE = --release --target $(RUST_TARGET)
TRAINING := target/training

.PHONY: build build-dev demo demo-server profile rustflags
build: $(VENV)/.build ## build the extension (release) into the tree
	@[ -n "$(PROFILE_FLAGS)" ] || echo "no $(PROFILE): the extension will be slower; make profile makes it" >&2
	RUSTFLAGS="$${RUSTFLAGS:-} $(SAME_PATHS) $(PROFILE_FLAGS)" $(BIN)/maturin develop $(RELEASE) --quiet

rustflags:
	@echo $(PROFILE_FLAGS)

profile: $(VENV)/.dev ## find out anew what the extension does most, by benches/profile
	RUSTFLAGS="$(SAME_PATHS) $(NO_VALUES) -Cprofile-generate -Cllvm-args=-runtime-counter-relocation" \
		$(BIN)/maturin build $(RELEASE) --quiet --target-dir $(TRAINING) --out $(TRAINING)/dist
	rm -rf $(TRAINING)/package
	$(BIN)/python $(PIP) install --no-deps --target $(TRAINING)/package $(TRAINING)/dist/*.whl
	$(BIN)/python -m benches.profile.run $(TRAINING)/package $(PROFILE)

build-dev: $(VENV)/.build ## build the extension (debug) into the tree
	$(BIN)/maturin develop --quiet

demo: build ## a server and a client over loopback, with figures; ends by itself
	$(BIN)/python -m examples.demo

PORT ?= 4433
demo-server: build ## a server that a browser can reach; prints what to paste
	$(BIN)/python -m examples.demo_server --port $(PORT)

# ---------------------------------------------------------------- wheel

.PHONY: wheel wheel-check
DIST := dist
wheel: $(VENV)/.build ## the wheel and the sdist, in dist/
	rm -rf $(DIST)
	RUSTFLAGS="$${RUSTFLAGS:-} $(SAME_PATHS) $(PROFILE_FLAGS)" \
		SOURCE_DATE_EPOCH="$${SOURCE_DATE_EPOCH:-$$(git log -1 --format=%ct 2>/dev/null || date +%s)}" \
		$(BIN)/maturin build $(RELEASE) --quiet --out $(DIST)
	$(BIN)/maturin sdist --out $(DIST)
	@ls -l $(DIST)

# The sdist is complete when it builds from nothing. Its files are older than any build, so that cargo
# would take what stands in target/ for theirs.
wheel-check: wheel ## the tutorial in fresh environments of Python 3.11, 3.12 and 3.13; a build of the sdist
	rm -rf target/sdist
	PATH="$(CURDIR)/$(BIN):$$PATH" CARGO_TARGET_DIR=$(CURDIR)/target/sdist CARGO_NET_OFFLINE=true \
		CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_OPT_LEVEL=0 \
		$(BIN)/python $(PIP) wheel --no-build-isolation --no-deps --no-index --wheel-dir target/sdist dist/*.tar.gz
	@for v in 3.11 3.12 3.13; do \
		python=; for p in python$$v $$(ls -d $${PYENV_ROOT:-$$HOME/.pyenv}/versions/$$v.*/bin/python 2>/dev/null); do \
			$$p -c '' 2>/dev/null && { python=$$p; break; }; done; \
		[ -n "$$python" ] || { echo "Python $$v is needed: install it" >&2; exit 1; }; \
		$$python tests/packaging/check_wheel.py dist/*.whl; done

# ---------------------------------------------------------------- documentation

.PHONY: docs
docs: $(VENV)/.dev build ## the site in target/docs; what is written from the code is written first
	$(BIN)/python docs/generate_reference.py
	$(BIN)/python docs/generate_limits.py
	$(BIN)/sphinx-build --fail-on-warning --quiet --jobs auto docs target/docs
	@echo "open target/docs/index.html"

# ---------------------------------------------------------------- tests

.PHONY: test audit lint types test-rust test-fuzz test-python test-uvloop test-browser test-interop interop-table fuzz soak bench-codec bench-growth bench-peers bench-ratio
# What the Python tests need from the network, which comes while Rust compiles.
FETCHED := peers chromium firefox brokers

test: $(VENV)/.dev ## everything
	@mkdir -p .cache; $(MAKE) $(FETCHED) > .cache/fetched.log 2>&1 & fetching=$$!; \
	$(MAKE) lint test-rust test-fuzz types || { kill $$fetching; exit 1; }; \
	wait $$fetching || { cat .cache/fetched.log; exit 1; }
	$(MAKE) test-python bench-ratio

lint: $(VENV)/.dev ## formatting and lints, Rust and Python
	cargo fmt --all --check
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	cargo clippy --workspace --all-targets --locked --quiet -- -D warnings

test-rust: $(VENV)/.dev ## Rust tests
	cargo test --workspace --locked --quiet

test-fuzz: ## the corpus of the fuzz targets, and some seconds more of each
	rust/fuzz/run 5

# Needs the network, so it is no part of `test`. What could not be looked up is a failure, not a pass.
AUDIT := .cache/audit
$(AUDIT)/bin/pip-audit:
	$(PYTHON) -m venv $(AUDIT)
	$(AUDIT)/bin/python $(PIP) install pip-audit==2.10.1

audit: $(VENV)/.dev $(AUDIT)/bin/pip-audit ## advisories, licences and origins of what this depends on
	@command -v cargo-deny >/dev/null || { echo "cargo-deny is needed: cargo install cargo-deny --locked" >&2; exit 1; }
	cargo deny --locked check
	$(BIN)/python $(PIP) freeze --exclude-editable > $(AUDIT)/packages.txt
	$(AUDIT)/bin/pip-audit --strict --disable-pip --no-deps --requirement $(AUDIT)/packages.txt

fuzz: ## ten minutes of fuzzing: parsers, protocol, endpoint
	rust/fuzz/run 200

soak: $(VENV)/.dev build ## twenty minutes of churn, resets, cancelled calls, killed clients and loss
	$(BIN)/python -m tests.soak.run

types: $(VENV)/.dev build ## mypy --strict, and the stub against the extension
	$(BIN)/mypy
	$(BIN)/python -m mypy.stubtest pywebtransport._native --ignore-disjoint-bases \
		--allowlist tests/packaging/stubtest-allowlist.txt

# Most tests wait for something, so two runs share the time: those that start programs, some of them
# on the port of the documentation, and the rest. The first is over sooner, and the native engine's
# behaviour and faults on uvloop follow it.
UVLOOP_TESTS := TEST_EVENT_LOOP=uvloop $(PYTEST) -o cache_dir=.cache/pytest-uvloop tests/behaviour tests/faults -k native
PROGRAM_TESTS := $(addprefix tests/,asgi browser cli docs examples interop packaging workers)

test-python: $(VENV)/.dev $(FETCHED) build ## Python tests, browser and peers included
	@mkdir -p .cache; status=0; \
	{ $(PYTEST) -o cache_dir=.cache/pytest-programs $(PROGRAM_TESTS) && $(UVLOOP_TESTS); } \
		> .cache/programs.log 2>&1 & programs=$$!; \
	$(PYTEST) tests $(PROGRAM_TESTS:%=--ignore=%) || status=$$?; \
	wait $$programs || status=$$?; \
	cat .cache/programs.log; exit $$status

test-uvloop: $(VENV)/.dev build ## behaviour and faults of the native engine on uvloop
	$(UVLOOP_TESTS)

test-browser: $(VENV)/.dev chromium build ## only the browser tests
	$(PYTEST) tests/browser

test-interop: $(VENV)/.dev peers chromium firefox build ## only the tests against other implementations
	$(PYTEST) tests/interop

interop-table: $(VENV)/.dev peers chromium firefox build ## write docs/reference/peers.md from what tests/interop sees
	WRITE_INTEROP_TABLE=1 $(PYTEST) tests/interop/test_checks.py tests/interop/test_table.py

bench-peers: $(VENV)/.dev build contenders ## this library beside its peers, end to end (half an hour)
	$(BIN)/python benches/peers/run.py

bench-growth: $(VENV)/.dev build ## what one more session, connection, stream costs when there are many
	$(BIN)/python -m benches.growth.run

bench-ratio: $(VENV)/.dev build ## no slower, by CPU time beside a yardstick's, than it was
	$(BIN)/python -m benches.ratio.run

bench-codec: $(VENV)/.dev build ## codecs: native against aioquic and pylsqpack
	$(PYTEST) benches/codec --benchmark-enable

.PHONY: clean
clean: ## remove everything that was built
	rm -rf $(VENV) $(PEERS) $(BENCH) .cache/fuzz target dist python/pywebtransport/*.so
