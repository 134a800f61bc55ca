# Every target builds .venv first when it is missing or older than the pins.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
WORK   ?= work/demo
# For a GPU machine without network: its Python, and what it lacks [all that torch does not bring].
GPU_WHEELS ?= build/gpu-wheels
GPU_PYTHON ?= 3.12
GPU_NEEDS  ?=
GPU_PLATFORMS ?= manylinux1_x86_64 manylinux2014_x86_64 manylinux_2_17_x86_64 manylinux_2_28_x86_64
DOCS   := $(BIN)/sphinx-build --quiet --fail-on-warning --keep-going docs build/docs
# A process a core; a file's tests stay together, since they share what they drew and trained.
# The files come in the order of tests/conftest.py, the slow ones first.
# With loadfile a run whose process died and was replaced waits for ever (pytest-xdist 3.8): it ends.
XDIST  ?= -n auto --dist loadfile --no-loadscope-reorder --max-worker-restart 0

# The tests start many processes; without .pyc files each of them compiles the package anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test test-fast check types style security arrows site docs gpu gpu-wheels clean help

help:
	@echo "make demo       install, draw a data set, detect, train, predict, evaluate; ends with what to look at"
	@echo "make test       the whole test suite (with ../shared/data where it is there)"
	@echo "make test-fast  the tests that take no more than a few seconds"
	@echo "make check      ruff, mypy, bandit, the import arrows, and the docs without a warning"
	@echo "make docs       the documentation as a site, in build/docs"
	@echo "make gpu        tests and measurements on a GPU, in under eight minutes (benchmarks/gpu.sh)"
	@echo "make gpu-wheels the wheels that make gpu needs on a machine without network"

$(STAMP): setup.cfg pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile \
		-c constraints.txt -e ".[dev]"
	@# mypy cannot see through the editable hook: give it the one import name as a plain folder.
	mkdir -p $(VENV)/typing && ln -sfn ../.. $(VENV)/typing/cropfirst
	touch $(STAMP)

demo: $(STAMP)
	$(BIN)/python cli.py demo --work $(WORK)

test: $(STAMP)
	$(BIN)/python -m pytest $(XDIST)

test-fast: $(STAMP)
	$(BIN)/python -m pytest $(XDIST) -m "not slow"

# Side by side: mypy takes as long as all the others together.
check: $(STAMP)
	$(MAKE) --no-print-directory --jobs 2 types style security arrows site

types:
	MYPYPATH=$(VENV)/typing $(BIN)/mypy -p cropfirst.core -p cropfirst.cache \
		-p cropfirst.compat -p cropfirst.configs -p cropfirst.door -p cropfirst.stage1_detect \
		-p cropfirst.stage2_classify \
		-m cropfirst -m cropfirst.api -m cropfirst.cli

style:
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

security:
	$(BIN)/bandit -q -c pyproject.toml -r core cache compat configs door stage1_detect \
		stage2_classify __init__.py api.py cli.py

arrows:
	$(BIN)/python -m pytest -q tests/test_imports.py

site:
	$(DOCS)

docs: $(STAMP)
	$(DOCS)
	@echo "open build/docs/index.html"

# Not from .venv: the machine's own Python has the torch that fits its GPU.
gpu:
	bash benchmarks/gpu.sh

gpu-wheels: $(STAMP)
	mkdir -p $(GPU_WHEELS)
	$(BIN)/python benchmarks/gpu_wheels.py list $(GPU_NEEDS) > $(GPU_WHEELS)/requirements.txt
	$(BIN)/python -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: \
		--python-version $(GPU_PYTHON) $(GPU_PLATFORMS:%=--platform %) \
		--dest $(GPU_WHEELS) --requirement $(GPU_WHEELS)/requirements.txt
	@du -sh $(GPU_WHEELS)

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
