# The doors of the house. `make help` lists them.
#
# build/ holds what people run: the tool and two releases of the example agent. It is the dev profile, whose
# dependencies are optimised (Cargo.toml); a release build takes twice as long and the demo would not feel it.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

CARGO ?= cargo
TARGET := $(or $(CARGO_TARGET_DIR),target)

.PHONY: help build tool demo story test check check-golden fi fi-root soak fuzz bench clean

help: ## This list
	@sed -nE 's/^([a-z-]+):.*## (.*)/  make \1\t\2/p' Makefile | expand -t 22

build: tool build/agent-1 build/agent-2 build/agent ## The programs and two releases of the example agent, in build/

tool:
	@mkdir -p build
	$(CARGO) build --workspace --bins
	@ci/put $(TARGET)/debug/autonomy build/autonomy
	@ci/put $(TARGET)/debug/edged build/edged
	@ci/put $(TARGET)/debug/edgectl build/edgectl

# Two binaries of one source, told apart by the release that is compiled in.
build/agent-1 build/agent-2: build/agent-%: examples/agent/src/main.rs examples/agent/Cargo.toml Cargo.toml
	@mkdir -p build
	AGENT_RELEASE=$(if $(filter 1,$*),1.4.2,1.5.0) $(CARGO) build --quiet --package autonomy-example-agent
	@ci/put $(TARGET)/debug/autonomy-example-agent $@

build/agent: build/agent-1
	@ci/put $< $@

demo: build ## The whole story on real input: sign, plan, apply, tamper, deny, kill, recover
	examples/demo/run

story: build ## Two minutes: a stick, two nodes, a new operating system, and a no that holds; STORY_PACE=0 tells it without pauses
	examples/story/run

test: ## Every suite, with its time against ci/budget.toml
	ci/setup-tests
	ci/run-suites

check: ## Format, lints, documentation, house rules: no warning passes
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --quiet -- -D warnings
	RUSTDOCFLAGS=-Dwarnings $(CARGO) doc --workspace --no-deps --quiet
	ci/scan-dependencies
	ci/scan-prohibited

check-golden: ## What is recorded (formats, fingerprints, cut points, command output) is still what the code says
	$(CARGO) nextest run --workspace --no-tests=fail -E 'test(/golden|recorded|pinned|sample|stories/)'
	$(CARGO) run --quiet --bin autonomy -- golden check .
	$(CARGO) run --quiet --bin autonomy -- golden check examples/ci-golden

fi: ## Failure injection: the named ones with a report in build/fi, then whatever cuts the power, kills, or fills the disk
	ci/fi/run
	$(CARGO) nextest run --workspace --no-tests=fail -E 'test(/crash|kill|power|torn|every_verb|every_byte|no_space/)'

fi-root: ## The same report with those that need root: networks of their own, cut and healed
	ci/fi/run root

soak: ## The failure-injection and property tests again and again, SOAK_MINUTES long (60), with fresh seeds
	ci/soak

fuzz: ## libFuzzer over every reader of foreign bytes, FUZZ_SECONDS each (60)
	for target in $$(ls ci/fuzz/corpus); do ci/fuzz/run "$$target" "$${FUZZ_SECONDS:-60}" -verbosity=0; done

bench: build ## Measure; raw results stay in bench/
	bench/run
	bench/golden
	bench/delta
	bench/trees
	bench/registry
	bench/relay

clean: ## Remove everything that was built
	$(CARGO) clean
	rm -rf build
