# make run    execute every notebook (one: make run NOTEBOOK=06), HTML copies in logs/html/
# make test   style, unit tests, and every notebook again under pytest --nbval
# Both set up what they need. BUDGET=full runs the full experiments instead of the laptop ones.
.DEFAULT_GOAL := help
.PHONY: help setup data run save test test-alone browser guidebook bench lab results clean

PYTHON ?= python3
NOTEBOOK ?=
BENCH ?=
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
SEED := ../shared/data

help:
	@echo "make run [NOTEBOOK=06]    execute the notebooks, with progress; HTML copies in logs/html/"
	@echo "make test                 style, unit tests, every notebook under pytest --nbval"
	@echo "make test-alone           every notebook alone in an empty folder, without data or network"
	@echo "make guidebook            the nine lectures as one HTML file, logs/html/guidebook.html"
	@echo "make lab                  open JupyterLab on the notebooks"
	@echo "make bench [BENCH=mnist]  the speed benchmarks"
	@echo "make save NOTEBOOK=06     for authors: execute and store the outputs in the notebook"
	@echo "make results              for authors: take over the measured claims, renew the tables in the README"
	@echo "make clean                remove what the notebooks made (data stays)"

setup: $(READY)

$(READY): requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || \
	  { echo "This needs Python 3.11, 3.12 or 3.13, and $(PYTHON) is another. Try: make PYTHON=python3.12 ..."; exit 1; }
	@echo "Setting up $(VENV): a few minutes, once."
	@$(PYTHON) -m venv $(VENV) || { echo "No virtual environment. On Debian or Ubuntu: apt install python3-venv"; exit 1; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $@

# Copies of the data sets on this machine spare the download; without them the notebooks fetch their own.
data:
	@if [ -d $(SEED) ]; then \
	  mkdir -p data/MNIST/raw data/text && \
	  cp -n $(SEED)/mnist/*.gz data/MNIST/raw/ && cp -n $(SEED)/text/*.txt data/text/; fi

run: setup data
	@$(BIN)/python scripts/run_notebooks.py $(NOTEBOOK)

save: setup data
	@$(BIN)/python scripts/run_notebooks.py --save $(NOTEBOOK)

# Two notebooks at once on two cores: one thread each.
test: setup data browser
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --nbval -n 2 --dist loadfile

# The tests of pages and widgets need a browser: the system's, else (as root on Debian) apt's, else Playwright's.
browser: setup
	@$(BIN)/python tests/browser.py >/dev/null && exit; echo "Installing a browser for the tests, once."; \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get; then apt-get update && apt-get install -y chromium; fi >/dev/null 2>&1; \
	  $(BIN)/python tests/browser.py >/dev/null && exit; \
	  timeout 300 $(BIN)/python -m playwright install chromium >/dev/null 2>&1; \
	  $(BIN)/python tests/browser.py >/dev/null || \
	  echo "No browser could be installed. The tests that need one are skipped; all others run."

guidebook: setup
	@$(BIN)/python scripts/guidebook.py --html

test-alone: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 tests/alone.py

bench: setup data
	@for file in tests/benchmarks/$(BENCH)*.py; do echo "== $$file"; $(BIN)/python $$file || exit 1; done

lab: setup data
	$(BIN)/jupyter lab --notebook-dir=. notebooks

results: setup
	$(BIN)/python scripts/readme_tables.py --write

clean:
	find plots models logs -mindepth 1 -not -name README.md -not -path 'logs/reference*' -delete
