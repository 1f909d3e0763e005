# GNU make 3.81 (macOS) reads this. `make help` lists the targets.
VENV ?= .venv
BIN = $(VENV)/bin
# Tests wait for processes of theirs a third of the time: four at once keep two cores busy.
# To look into one: ARGS="-n 0 --pdb -k NAME"
TESTS = $(BIN)/python -m pytest --numprocesses 4 --dist worksteal
ARGS ?=
PEERS ?=
TEXT ?=
DRY_RUN ?=
GPU_MINUTES ?=
NEWER_OR_OLDER = Countersign needs Python 3.11, 3.12 or 3.13 and found none. Install one, or name one: make run PYTHON=/path/to/python3.12
FITS = import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))
PYTHON ?= $(shell for p in $(BIN)/python python3 python3.13 python3.12 python3.11; do \
	"$$p" -c '$(FITS)' >/dev/null 2>&1 && { echo "$$p"; break; }; done)
INSTALL = $(PYTHON) webapp/house/install.py $(VENV)

.PHONY: run worker doctor test check static bytecode benchmarks gpu lock clean help python browser

run: python ## everything on this machine: installs, prepares, starts, prints a login link
	@$(INSTALL)
	@exec $(BIN)/python manage.py up $(ARGS)

worker: python ## a GPU worker for a web side elsewhere (see `manage.py worker NAME`)
	@$(INSTALL)
	@exec $(BIN)/python -m gpu_runner worker

doctor: python ## what this machine has, what a lack costs, what to do
	@$(INSTALL)
	@$(BIN)/python manage.py doctor $(ARGS)

test: python browser bytecode ## the tests
	@$(TESTS) $(ARGS)

check: python browser ## format, lint, types, import directions, migrations, tests
	@$(MAKE) --no-print-directory --jobs 2 static bytecode
	$(TESTS) $(ARGS)

static: python
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(BIN)/python manage.py makemigrations --check --dry-run
	$(BIN)/mypy

# Hundreds of processes import these, and those inside of a sandbox cannot keep what they compiled; pytest has its own.
bytecode: python
	@$(BIN)/python -m compileall -q -x /recipes/ webapp research gpu_runner tests
	@PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest --collect-only -qq >/dev/null || true  # said again, in words, by the tests

benchmarks: python ## measures, and says what was measured; PEERS=FOLDER holds the trainers to compare with
	@$(INSTALL) test
	PEERS="$(PEERS)" $(BIN)/python -m pytest -m benchmark -p no:randomly -s $(ARGS)

gpu: python ## the whole loop on an NVIDIA GPU in GPU_MINUTES=30 (docs/gpu.md); DRY_RUN=1 tries it without
	@$(INSTALL) test
	PEERS="$(PEERS)" TEXT="$(TEXT)" DRY_RUN="$(DRY_RUN)" GPU_MINUTES="$(GPU_MINUTES)" $(BIN)/python -m pytest -m gpu tests/gpu -p no:randomly -s $(ARGS)

lock: python ## constraints.txt anew, from what pyproject.toml allows today
	@$(PYTHON) webapp/house/install.py --lock

clean: ## removes what can be made again; never .countersign, the record
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis test-results
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' Makefile

python:
	@test -n "$(PYTHON)" || { echo "$(NEWER_OR_OLDER)" >&2; exit 1; }

# Browser tests need a Chromium: one from PATH, else Playwright's own, which is downloaded once.
browser: python
	@$(INSTALL) test
	@command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null \
		|| $(BIN)/playwright install chromium \
		|| { echo "The tests need Chromium, and none could be had: install it (Debian: apt install chromium)." >&2; exit 1; }
