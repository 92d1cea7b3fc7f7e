# `make` or `make help` lists the targets. Everything runs in .venv, which they create and keep up to date.

VENV   := .venv
PINS   := constraints.txt
RUNS   ?= runs
SHELL  := bash
ARGS   ?=
BIN    := $(VENV)/bin

# The first Python on the path that is new enough.
PYTHON ?= $(shell for python in python3.11 python3 python3.12 python3.13 python; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)

# The strict editable install links file by file (that is what type checkers and editors can follow), so it
# is renewed when a file of the packages comes or goes: the name of the stamp carries their list.
LAYOUT := $(shell find board callbacks configs datamodules experiments pipeline src -type f -not -path '*/__pycache__/*' \
	| LC_ALL=C sort | cksum | cut -d ' ' -f 1)
READY  := $(VENV)/.ready-$(LAYOUT)

.DEFAULT_GOAL := help
.PHONY: help train test tests test-slow test-portable test-oldest test-browser board lint format bench experiment experiments docs figures wheel release clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

train: $(READY)-run ## train without and with noise in the images, or one run as ARGS="..." says
ifeq ($(strip $(ARGS)),)
	$(BIN)/firstlight fit
	$(BIN)/firstlight fit --config noise.yaml
else
	$(BIN)/firstlight fit $(ARGS)
endif

test: lint tests ## lint, then run the tests that are not slow (ARGS=tests/pipeline, ARGS="-k lrp", ...)

# Two processes on two cores: more threads than cores are slower than one.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest
QUICK  := -n 2 --dist worksteal -m "not slow and not browser"

tests: $(READY)-test
	$(PYTEST) $(QUICK) $(ARGS)

test-slow: $(READY)-test ## run the tests that take more than some seconds, and the package in an empty environment
	$(PYTEST) -m "slow and not browser" $(ARGS)

# Numbers must not depend on the instructions that a processor has: torch's own kernels, then those of MKL.
test-portable: $(READY)-test ## run the numerical tests with other instruction sets
	ATEN_CPU_CAPABILITY=default $(PYTEST) $(QUICK) tests/pipeline tests/test_properties.py $(ARGS)
	MKL_ENABLE_INSTRUCTIONS=SSE4_2 $(PYTEST) $(QUICK) tests/pipeline tests/test_properties.py $(ARGS)

test-oldest: ## run the tests with the oldest versions that pyproject.toml allows, in an environment of their own
	$(MAKE) tests VENV=.venv-oldest PINS=constraints-oldest.txt

test-browser: $(READY)-browser ## drive the Explanations tab and the report in Chromium
	@missing=; for need in chromium:chromium chromedriver:chromium-driver; do \
		command -v $${need%:*} >/dev/null || missing="$$missing $${need#*:}"; done; \
		test -z "$$missing" || { echo "make test-browser needs, on Debian: apt install$$missing" >&2; exit 1; }
	$(BIN)/python -m pytest tests/browser -m browser $(ARGS)

board: $(READY)-run ## open TensorBoard on the Explanations tab, on this machine only
	@echo "The maps, epoch by epoch, are at http://localhost:6006/#firstlight"
	@test -z "$$DISPLAY$$WAYLAND_DISPLAY" && test "$$(uname)" != Darwin || \
		{ sleep 8; $(BIN)/python -m webbrowser "http://localhost:6006/#firstlight" > /dev/null 2>&1; } &
	$(BIN)/tensorboard --logdir $(RUNS) --host localhost --port 6006 --samples_per_plugin images=1000 $(ARGS)

lint: $(READY)-test ## check style, format and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(READY)-test ## mend style and format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(READY)-bench ## measure what is claimed to be fast, beside its peers
	$(BIN)/python -m benchmarks $(ARGS)

experiment: $(READY)-experiments ## run one experiment of the papers (NAME=pattern_toy ARGS="--root data"), or list them
	$(BIN)/firstlight experiment $(NAME) $(ARGS)

experiments: $(READY)-experiments ## run them all, one after the other
	set -e; for config in configs/experiments/*.yaml; do \
		$(BIN)/firstlight experiment $$(basename $$config .yaml) $(ARGS); done

docs: $(READY)-docs ## build the documentation in docs/_build/html; a warning is an error
	test -f docs/_static/gallery.html || $(BIN)/python docs/gallery.py
	$(BIN)/python -m sphinx -b html -W --keep-going -q docs docs/_build/html
	@echo "docs/_build/html/index.html is the documentation."

figures: $(READY)-experiments ## draw the pictures of the documentation from the runs of make train
	$(BIN)/python docs/figures.py
	$(BIN)/python docs/messages.py

wheel: $(READY)-test ## build the wheel and the source distribution in dist/ and check them
	rm -rf dist
	$(BIN)/python -m build --outdir dist . > /dev/null
	$(BIN)/twine check --strict dist/*

release: test wheel ## all but the upload: tests, package, and the package in an empty environment
	@version=$$($(BIN)/firstlight --version | cut -d ' ' -f 2); \
	grep -q "^## $$version$$" CHANGELOG.md || { echo "CHANGELOG.md says nothing of $$version" >&2; exit 1; }
	$(PYTEST) -m slow tests/test_packaging.py
	@echo "dist/ is ready: $(BIN)/twine upload dist/*"

clean: ## remove all that was made, but not the runs
	rm -rf .venv .venv-oldest build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -type d -name __pycache__ -prune -exec rm -rf {} +

# .ready-<layout>-<extra>: firstlight is installed with that extra (`run` stands for none). A dot stands for a package.
$(READY)-%: pyproject.toml setup.py $(PINS)
	@test -n "$(PYTHON)" || { echo "firstlight needs Python 3.11 or newer: install it, or say make PYTHON=/path/to/python" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "firstlight needs Python 3.11 or newer, not %d.%d" % sys.version_info[:2])'
	test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV)
	rm -rf build/__editable__.* $(filter-out $(wildcard $(READY)-*),$(wildcard $(VENV)/.ready-*))
	@printf 'Installing firstlight and what it needs into $(VENV). The first time this takes some minutes, for PyTorch is large. '
	@set -o pipefail; $(BIN)/pip install --disable-pip-version-check --constraint $(PINS) \
		--editable '.$(if $(filter run,$*),,[$*])' --config-settings editable_mode=strict \
		| awk '/^Collecting|^Downloading|^Installing/ { printf "."; fflush() } END { print " done" }'
	touch $@
