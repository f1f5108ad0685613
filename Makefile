# make run    execute every notebook (one: make run NOTEBOOK=06), pages in logs/html/
# make test   style, unit tests, and every notebook again under pytest --nbval
# Both set up what they need. `make help` lists everything.
.DEFAULT_GOAL := help
.PHONY: help setup data run save test test-alone browser site guidebook handouts bench \
  lab results sync clean

PYTHON ?= python3
NOTEBOOK ?=
BUDGET ?=
BENCH ?=
# A folder with copies of the data sets, mnist/*.gz and text/*.txt, to spare downloads.
DATA_CACHE ?=
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
TOOLS := $(BIN)/python -m tools
RUN = $(TOOLS) run $(if $(BUDGET),-p BUDGET $(BUDGET))

help:
	@echo "make run [NOTEBOOK=06] [BUDGET=full]  execute notebooks; pages in logs/html/"
	@echo "make test                 style, unit tests, every notebook under pytest --nbval"
	@echo "make test-alone           every notebook alone, without data or network"
	@echo "make lab                  open JupyterLab on the notebooks"
	@echo "make site                 the course as pages to read, site/_build/html/index.html"
	@echo "make guidebook            the lectures as one file, logs/html/guidebook.html, and .pdf"
	@echo "make handouts             for teachers: lessons without solutions, in handouts/"
	@echo "make bench [BENCH=mnist]  the speed benchmarks"
	@echo "make clean                remove what the notebooks made (data stays)"
	@echo "For authors:"
	@echo "make save NOTEBOOK=06     execute; store the outputs, and the record in results/"
	@echo "make results              take over the records of the last runs into results/"
	@echo "make sync                 write everything that is generated"
	@echo "With DATA_CACHE=FOLDER, MNIST and text come from FOLDER/mnist and FOLDER/text."

setup: $(READY)

$(READY): requirements.txt requirements-site.txt requirements-test.txt constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' \
	  || { echo "This needs Python 3.11, 3.12 or 3.13, and $(PYTHON) is another."; \
	  echo "Try: make PYTHON=python3.12 ..."; exit 1; }
	@echo "Setting up $(VENV): a few minutes, once."
	@$(PYTHON) -m venv $(VENV) || { echo "No virtual environment could be made."; \
	  echo "On Debian or Ubuntu: apt install python3-venv"; exit 1; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check \
	  -r requirements-test.txt -c constraints.txt
	@touch $@

# What already lies in data/ stays. Without DATA_CACHE the notebooks fetch their own.
data:
	@[ -z "$(DATA_CACHE)" ] || \
	for file in "$(DATA_CACHE)"/mnist/*.gz "$(DATA_CACHE)"/text/*.txt; do \
	  case "$$file" in *.gz) to=data/MNIST/raw;; *) to=data/text;; esac; \
	  mkdir -p $$to; \
	  [ ! -f "$$file" ] || [ -e "$$to/$${file##*/}" ] || cp "$$file" $$to || exit 1; \
	done

run: setup data
	@$(RUN) $(NOTEBOOK)

save: setup data
	@$(RUN) --save $(NOTEBOOK)

# Two notebooks at once on two cores: one thread each.
test: setup data browser
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --nbval -n 2 --dist loadfile

test-alone: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 tests/alone.py

# Tests of pages and widgets need a browser: the system's, else (as root on Debian)
# apt's, else Playwright's, which may take five minutes and no more.
browser: setup
	@found() { $(BIN)/python tests/browser.py >/dev/null; }; \
	found && exit; echo "Installing a browser for the tests, once."; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get; then \
	  apt-get update && apt-get install -y chromium; fi >/dev/null 2>&1; \
	found && exit; \
	$(BIN)/python -c 'import subprocess, sys; subprocess.run([sys.executable, "-m", \
	  "playwright", "install", "chromium"], timeout=300)' >/dev/null 2>&1; \
	found || echo "No browser. The tests that need one are skipped; all others run."

# Pages need Sphinx alone, so this starts on a bare machine in a minute.
$(VENV)/.site-ready: requirements-site.txt constraints.txt
	@[ -d $(VENV) ] || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check \
	  -r requirements-site.txt -c constraints.txt
	@touch $@

site: $(VENV)/.site-ready
	@$(TOOLS) site

guidebook: setup
	@$(TOOLS) book

handouts: setup
	@$(TOOLS) handouts $(NOTEBOOK)

bench: setup data
	@for file in benchmarks/$(BENCH)*.py; do echo "== $$file"; \
	  PYTHONPATH=. $(BIN)/python $$file || exit 1; done

lab: setup data
	$(BIN)/jupyter lab --notebook-dir=. notebooks

results: setup
	@$(TOOLS) results
	@$(TOOLS) sync

sync: setup
	@$(TOOLS) sync

clean:
	find plots models logs -mindepth 1 -not -name README.md -delete
	rm -rf handouts site/_build
