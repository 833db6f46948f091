# make search   install, then run the built-in default and print its table
# make test     install, then run every test
# make check    lint, types and the order of the rooms
# make chaos    faults on purpose, many times (an hour)
# make audit    known vulnerabilities of what is installed (asks a public database)
# make gpu      all that needs a GPU, on a machine that has one, and how fast it is (8 minutes)
# make bench    how fast, beside what users do today (half an hour; leave the machine alone)
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
# `make search ARGS="search_spaces/folder.yaml --dry-run"` passes options on.
ARGS ?=
# The index that torch is installed from, anew, for older GPUs and drivers; "Get started" on
# PyTorch's site has the URL of each: `make search TORCH_INDEX=URL`.
TORCH_INDEX ?=

.PHONY: search test check fast chaos gpu bench audit clean index

search: $(VENV)/.run
	$(BIN)/python run_search.py --resume $(ARGS)

# Each file's tests stay in one of two processes; the files come in the order of tests/conftest.py.
TWO := -n 2 --dist loadfile --no-loadscope-reorder

# First what needs no Ray; then what starts a Ray of its own or shares its process's.
test: $(VENV)/.dev
	export ROOM_SECONDS=$$(mktemp -d)/seconds.json; \
	$(BIN)/python -m pytest $(TWO) -m "not ray"; pure=$$?; \
	$(BIN)/python -m pytest $(TWO) -m ray && exit $$pure

fast: $(VENV)/.dev
	$(BIN)/python -m pytest $(TWO) -m "not ray"

chaos: $(VENV)/.dev
	CHAOS=1 $(BIN)/python -m pytest tests/chaos tests/runs/test_interruptions.py \
		tests/runs/test_live_run.py $(ARGS)

check: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

$(VENV)/.run: requirements.txt $(if $(TORCH_INDEX),index)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(if $(TORCH_INDEX),$(BIN)/python -m pip install --disable-pip-version-check \
		--force-reinstall --index-url "$(TORCH_INDEX)" $$(grep ^torch requirements.txt))
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	touch $@

$(VENV)/.dev: requirements-dev.txt $(VENV)/.run
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	touch $@

gpu: $(VENV)/.dev
	$(BIN)/python -m benchmarks.gpu

bench: $(VENV)/.dev
	$(BIN)/python -m benchmarks.bench $(ARGS)
	$(BIN)/python -m benchmarks.overhead driver
	$(BIN)/python -m benchmarks.overhead trained --slots 2
	$(BIN)/python -m benchmarks.overhead memory --slots 2

audit: $(VENV)/.dev
	$(PYTHON) -m venv $(VENV)/audit
	$(VENV)/audit/bin/pip install --quiet --disable-pip-version-check pip-audit
	$(BIN)/pip freeze --disable-pip-version-check > $(VENV)/audit/installed.txt
	$(VENV)/audit/bin/pip-audit --requirement $(VENV)/audit/installed.txt --no-deps --disable-pip

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
