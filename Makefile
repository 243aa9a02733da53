# Everything happens in an environment of its own, so that nothing else on the machine changes.
#   make train   build pynn and train 784-256-128-10 on MNIST
#   make test    build pynn and run the tests
# PYTHON chooses the interpreter (3.10 or newer): make test PYTHON=python3.12

PYTHON ?= python3
VENV ?= .venv
ifeq ($(OS),Windows_NT)
BIN := $(VENV)/Scripts
else
BIN := $(VENV)/bin
endif

SOURCES := $(wildcard csrc/*) $(shell find pynn -type f -not -name '*.pyc' -not -name '*.nbi' -not -name '*.nbc' -not -name '*.so') CMakeLists.txt pyproject.toml

.PHONY: train test lint bench clean

train: $(VENV)/installed
	$(BIN)/pynn train $(ARGS)

test: $(VENV)/installed-test
	$(BIN)/pytest $(ARGS)

lint: $(VENV)/installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/installed-bench
	$(BIN)/python -m benchmarks $(ARGS)

$(VENV)/created:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	touch $@

$(VENV)/installed: $(VENV)/created $(SOURCES)
	$(BIN)/python -m pip install --quiet ".[cli,plots]"
	touch $@

# In one go, so that pynn is built once; the extra "test" holds what "cli" and "plots" do.
$(VENV)/installed-test: $(VENV)/created $(SOURCES)
	$(BIN)/python -m pip install --quiet ".[test,lint]"
	touch $(VENV)/installed $@

$(VENV)/installed-bench: $(VENV)/created $(SOURCES)
	$(BIN)/python -m pip install --quiet ".[bench,cli,plots,numba]"
	touch $(VENV)/installed $@

clean:
	rm -rf $(VENV) build
