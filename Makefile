# Two commands on a machine that has only Python (>= 3.11, with venv and pip), git and make:
#   make demo    the main job, seen to work
#   make test    the whole test suite
# Everything else is set up from here: a .venv with nox and uv; nox makes the rest. Choose a Python with PYTHON=...

SHELL := /bin/sh
.DEFAULT_GOAL := help
NOX := .venv/bin/nox
# The tests wait more than they work: what runs side by side costs little and ends sooner. The output of each comes whole.
LANES := tests-3.11 slow tests-3.12 tests-3.13 checks
JOBS := 3
PYTHONS := $(PYTHON) python3 python3.13 python3.12 python3.11 $(sort $(wildcard $(HOME)/.pyenv/versions/3.1[1-9].*/bin/python3))

.PHONY: help demo test observability lint bench clean $(LANES)

help:  ## this list
	@sed -n 's/^\([a-z]*\):.*##  */make \1|/p' Makefile | while IFS='|' read -r name text; do printf '%-12s %s\n' "$$name" "$$text"; done

demo: .venv/.ready  ## the same bad day on the network through plain httpx and through holdwire
	@$(NOX) -s demo -- $(ARGS)

test: .venv/.ready  ## lint, types, tests on every Python found, coverage, the built wheel, the documentation
	@rm -rf .coverage .coverage.* build/lanes
	@ended=0; \
	$(MAKE) --no-print-directory --keep-going --jobs=$(JOBS) --output-sync=target $(LANES) || ended=1; \
	$(NOX) -s coverage interpreters guard || ended=1; \
	for log in build/lanes/*.failed; do if [ -e "$$log" ]; then \
	    printf '\n======== FAILED: %s; its output ends so:\n' "$$(basename "$$log" .failed)"; tail -n 60 "$$log"; \
	fi; done; \
	exit $$ended

$(LANES):
	@mkdir -p build/lanes; log=build/lanes/$@; \
	if $(NOX) -s $(subst checks,lint typing wheel docs,$@) >$$log 2>&1; then cat $$log; \
	else cat $$log; mv $$log $$log.failed; exit 1; fi

observability: .venv/.ready  ## every fault of the demo, found again in Phoenix and Prometheus
	@$(NOX) -s observability

lint: .venv/.ready  ## style, layers and types only
	@$(NOX) -s lint typing

bench: .venv/.ready  ## every client under every load, for docs/performance.md; ARGS="--quick" for a look
	@$(NOX) -s bench -- $(ARGS)

clean:  ## remove everything that was made
	rm -rf .venv .nox .coverage .coverage.* .hypothesis .mypy_cache .ruff_cache .pytest_cache .import_linter_cache build dist

.venv/.ready: Makefile
	@set -eu; \
	python=; \
	for candidate in $(PYTHONS); do \
	    if "$$candidate" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then python=$$candidate; break; fi; \
	done; \
	if [ -z "$$python" ]; then \
	    echo "holdwire needs Python >= 3.11 with venv and pip; none of these is one: $(PYTHONS)." >&2; \
	    echo "Install one (Debian: apt-get install python3 python3-venv) or name it: make PYTHON=/path/to/python3" >&2; \
	    exit 1; \
	fi; \
	echo "Setting up .venv with $$("$$python" --version) ($$(command -v "$$python")): nox, which makes all other environments, and uv"; \
	"$$python" -m venv .venv; \
	.venv/bin/python -m pip install --quiet --disable-pip-version-check 'nox>=2025.5' 'uv>=0.9' || { \
	    echo "uv cannot be installed here: going on with pip alone, which is slower"; \
	    .venv/bin/python -m pip install --quiet --disable-pip-version-check 'nox>=2025.5'; \
	}; \
	touch .venv/.ready
