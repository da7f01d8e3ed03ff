# Two commands do all the set-up on a fresh machine: `make demo` and `make test`. Each makes .venv if it is missing.
PYTHON ?= python3
BIN := .venv/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
EXTRAS := $(addprefix .venv/,flare notebooks track browser docs)

.PHONY: demo test test-slow lint format docs release-check clean

demo: .venv/core
	rm -rf demo
	$(BIN)/sammit demo --out demo

test: .venv/dev
	$(BIN)/python -m pytest --numprocesses auto --dist worksteal

test-slow: $(EXTRAS) .venv-nnunet/ready
	$(BIN)/python -m pytest -m slow

lint: .venv/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: .venv/dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: .venv/docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# Needs a network and some minutes: the wheel in a clean environment, where it runs the demo.
release-check: .venv/core
	$(BIN)/python scripts/release_check.py

clean:
	rm -rf .venv .venv-nnunet demo runs build

.venv/core: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(INSTALL) --editable .
	touch $@

.venv/dev: .venv/core
	$(INSTALL) --editable ".[dev]"
	touch $@

$(EXTRAS): .venv/%: .venv/dev
	$(INSTALL) --editable ".[dev,$*]"
	touch $@

# nnU-Net's own environment: it brings timm and torchvision, which must never be in Sammit's.
.venv-nnunet/ready: constraints-nnunet.txt
	test -x .venv-nnunet/bin/python || $(PYTHON) -m venv .venv-nnunet
	.venv-nnunet/bin/python -m pip install --quiet --disable-pip-version-check --constraint $< nnunetv2 safetensors
	touch $@
