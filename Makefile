# make help lists what there is. The first target that needs them makes .venv and fetches the lab's servers.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# Tools of others that tests load our archives with; the servers themselves come without being asked for.
TOOLS := skopeo,umoci,podman,buildah,zstd,chromium,systemd-analyze,prometheus,node-exporter
# More than there are cores: tests wait for daemons half of their time.
WORKERS ?= 6

# Python is started hundreds of times: it has to keep what it compiled.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help install lab-install demo test lint format unit lab mutants protos schema samples pictures bench clean

help: ## what there is
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or later is needed" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt \
		--config-settings editable_mode=compat --editable '.[dev]'
	@touch $@

install: $(STAMP) ## the program and its tools into .venv

lab-install: ## containerd 1.6, 1.7, 2.1, a registry and dockerd into .lab, runc and image tools with apt
	@tools/lab-install --with $(TOOLS)

demo: $(STAMP) ## the missing-blobs bug on a private containerd: found, explained, repaired, exported
	@tools/lab-install
	@$(BIN)/python -m tests.lab.demo

test: lint $(STAMP) lab-install ## lint, then every test, the lab included
	@$(BIN)/python -m pytest -q -n $(WORKERS) --dist worksteal

lint: $(STAMP) ## style, types, import rules, generated files
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check --quiet . || { $(BIN)/ruff format --diff --quiet . | head -40; exit 1; }
	@$(BIN)/mypy --no-error-summary
	@$(BIN)/lint-imports --no-logo >$(VENV)/imports.log 2>&1 || { cat $(VENV)/imports.log; exit 1; }
	@tools/generated-is-current $(BIN)/python

format: $(STAMP) ## put the code in order
	@$(BIN)/ruff check --fix-only --quiet .
	@$(BIN)/ruff format --quiet .

unit: $(STAMP) ## the tests that need no daemon
	@$(BIN)/python -m pytest -q -n $(WORKERS) --dist worksteal tests/unit

lab: $(STAMP) lab-install ## the tests on real daemons and registries
	@$(BIN)/python -m pytest -q -n $(WORKERS) --dist worksteal tests/lab

mutants: $(STAMP) ## change the rules one place at a time, and see that a unit test notices; some minutes
	@$(BIN)/python -m tests.mutants

protos: $(STAMP) ## compile protos/ into the adapter, and the lab's own
	@tools/protos $(BIN)/python
	@PATH="$$PWD/$(BIN):$$PATH" $(BIN)/python -m grpc_tools.protoc -Itests/lab/kit/_proto=tests/lab/kit/protos --python_out=. \
		--grpc_python_out=. --mypy_out=quiet:. --mypy_grpc_out=quiet:. tests/lab/kit/protos/cri.proto

schema: $(STAMP) ## write the report's JSON Schema to reports/schema.json
	@$(BIN)/python -c 'from auditor.formats.jsonreport import render_schema; print(render_schema(), end="")' > reports/schema.json.new
	@mv reports/schema.json.new reports/schema.json

samples: $(STAMP) lab-install ## make the sample reports anew from the lab
	@$(BIN)/python -m tests.lab.samples
	@$(BIN)/python -m tests.lab.diagnose_samples
	@$(BIN)/python -m tests.unit.rendered
	@$(BIN)/python tools/readme-sample

pictures: $(STAMP) lab-install ## take the pictures in docs/pictures anew
	@$(BIN)/python -m tests.lab.pictures

bench: $(STAMP) lab-install ## run all benchmarks; some minutes
	@for file in tests/bench/bench_*.py; do name=$${file##*/}; echo "== $$name"; $(BIN)/python -m tests.bench.$${name%.py} || exit 1; done

clean: ## take away what make made
	rm -rf $(VENV) .lab build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
