# Every target works in a virtual environment, .venv, and changes nothing else on the machine. The
# first one compiles pynn, which takes 3 to 5 minutes on 2 cores.
#   make train   build pynn and train 784-256-128-10 on MNIST
#   make test    build pynn and run the tests, with a sample of large parameter grids
#   make test-all  build pynn and run all tests (the same as make test ARGS=--all)
#   make lint    check style, types and which package imports which
#   make docs    build the documentation site into build/docs
#   make fuzz    test every file reader with random bytes (Linux on x86-64)
#   make dist    build sdist and wheel into dist, and check them
#   make cross   compile the kernels for other systems and processors, and run them in emulators
#   make sanitize  run the compiled core under sanitizers, Valgrind and emulated processors
# PYTHON chooses the interpreter (3.10 or newer): make test PYTHON=python3.12
# PACKAGE is what gets installed: the checkout, or a wheel of it, which is not compiled again:
# make test PACKAGE=dist/pynn_mlp-….whl

PYTHON ?= python3
PACKAGE ?= .
VENV ?= .venv
ifeq ($(OS),Windows_NT)
BIN := $(VENV)/Scripts
else
BIN := $(VENV)/bin
endif

SOURCES := $(shell find csrc pynn -type f -not -name '*.pyc' -not -name '*.nbi' -not -name '*.nbc' -not -name '*.so') CMakeLists.txt pyproject.toml

.PHONY: train test test-all lint bench docs fuzz sanitize cross dist clean

train: $(VENV)/installed
	$(BIN)/pynn train $(ARGS)

# One process for each core. Tests of one xdist_group run in one process, to share what they build.
PYTEST := $(BIN)/pytest -n auto --maxprocesses 8 --dist loadgroup

test: $(VENV)/installed-test
	$(PYTEST) $(ARGS)

test-all: $(VENV)/installed-test
	$(PYTEST) --all $(ARGS)

lint: $(VENV)/installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/installed-bench
	$(BIN)/python -m benchmarks $(ARGS)

# Warnings are errors. sphinx-build, not python -m sphinx, so that the installed pynn is imported.
docs: $(VENV)/installed-docs
	$(BIN)/sphinx-build -W --keep-going -n -q -b html docs build/docs $(ARGS)
	@echo "build/docs/index.html"

# Seconds for each file type. make fuzz SECONDS=1800 ARGS="idx csv" tests two types for 30 minutes each.
SECONDS ?= 60
fuzz: $(VENV)/installed-fuzz
	$(BIN)/python -m tests.fuzz --seconds $(SECONDS) $(ARGS)

# The wheel is built from the sdist, as pip builds one where there is no wheel.
dist: $(VENV)/installed-dist
	rm -rf dist
	$(BIN)/python -m build
	$(BIN)/twine check --strict dist/*
	$(BIN)/check-wheel-contents dist/*.whl

# make cross ARGS="--only aarch64-linux-musl" compiles for one target.
cross: $(VENV)/installed-cross
	$(BIN)/python -m tests.cross $(ARGS)

# All checks take long. make sanitize ARGS="--only address thread" runs two of them.
sanitize: $(VENV)/installed-test
	$(BIN)/python -m tests.sanitize $(ARGS)

# pip 25.1 knows dependency groups.
$(VENV)/created:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade "pip>=25.1"
	touch $@

ifeq ($(PACKAGE),.)
SAY := @echo "Compiling the C++ code of pynn (3 to 5 minutes on 2 cores) and installing it"
else
SAY := @echo "Installing $(PACKAGE)"
# pip keeps an installed pynn of the same version, which may have been built from other sources.
FORCE := $(BIN)/python -m pip install --quiet --no-deps --force-reinstall "$(PACKAGE)"
endif

$(VENV)/installed: $(VENV)/created $(SOURCES)
	$(SAY)
	$(BIN)/python -m pip install "$(PACKAGE)[cli,plots]"
	touch $@

# One command, so that pynn is built once; the group "test" includes the extras "cli" and "plots".
# More extras: make test EXTRAS=,distributed
DEV_GROUPS ?= test lint
$(VENV)/installed-test: $(VENV)/created $(SOURCES)
	$(SAY)
	$(BIN)/python -m pip install $(addprefix --group ,$(DEV_GROUPS)) "$(PACKAGE)[cli,plots$(EXTRAS)]"
	$(FORCE)
	touch $(VENV)/installed $@

$(VENV)/installed-bench: $(VENV)/created $(SOURCES)
	$(SAY)
	$(BIN)/python -m pip install --group bench "$(PACKAGE)[cli,plots,numba]"
	touch $(VENV)/installed $@

$(VENV)/installed-docs: $(VENV)/created $(SOURCES)
	$(SAY)
	$(BIN)/python -m pip install --group docs "$(PACKAGE)"
	touch $@

$(VENV)/installed-fuzz: $(VENV)/created $(SOURCES)
	$(SAY)
	$(BIN)/python -m pip install --group fuzz "$(PACKAGE)"
	touch $(VENV)/installed $@

$(VENV)/installed-dist: $(VENV)/created
	$(BIN)/python -m pip install --group dist
	touch $@

$(VENV)/installed-cross: $(VENV)/created
	$(BIN)/python -m pip install --group cross
	touch $@

clean:
	rm -rf $(VENV) build dist
