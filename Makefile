# make demo   install into .venv and run the main job on a real embedded model
# make test   install into .venv and pass the tests
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
export PIP_CONSTRAINT := $(CURDIR)/constraints.txt

.PHONY: demo test lint types clean qemu

demo: $(VENV)/.demo
	$(BIN)/kprune-export demo --output demo-output

test: $(VENV)/.dev $(VENV)/.tensorrt-on-cpu $(VENV)/.tritonserver qemu
	OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m pytest -n 2 --dist loadfile  # torch's idle threads leave the cores alone

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev
	$(BIN)/mypy

clean:
	rm -rf $(VENV) demo-output build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) install --quiet --editable '.[demo]'
	touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) install --quiet --editable '.[dev]'
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
