# make demo   set-up, a page drawn by the shipped models (runs/shipped-models.html), then the main job: corpus, training,
#             evaluation, report (runs/demo/report.html)
# make test   set-up, then the test suite
# make check  set-up, then lint, format, types, and the API's documentation (build/api/index.html)
# make dist   set-up, then wheels and sdists of s2igan and s2igan-edge into dist/, each tried out in an empty environment
# make gpu    on a machine with a CUDA GPU, without set-up or network: the tests of a GPU, then speed and memory, as JSON
#
# Needs Python >= 3.11 and make. Everything is installed into .venv by pip; PYTHON=... chooses the interpreter.

PYTHON ?=
# Installed 6.2 GB, and 3 GB of wheels until they are unpacked; pip's cache keeps another 3 GB where there is room.
MIN_FREE_GB ?= 10
CACHE_FREE_GB := 14

VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/installed-from-pyproject
CANDIDATES := $(or $(PYTHON),python3.11 python3.12 python3.13 python3 python)

DEMO_RUN := runs/demo
DEMO_PAGE := runs/shipped-models.html

# For `make gpu`: the first Python whose PyTorch finds a GPU.
PYTHON_GPU ?= $(or $(PYTHON),$(shell for candidate in $(BIN)/python python3 python; do \
	  "$$candidate" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())' >/dev/null 2>&1 && \
	  { echo "$$candidate"; break; }; done),$(wildcard $(BIN)/python),python3)

.DELETE_ON_ERROR:
.PHONY: setup demo test check dist gpu help

help:
	@sed -n '1,8s/^# \{0,1\}//p' Makefile

setup: $(INSTALLED)

$(INSTALLED): pyproject.toml
	@usable() { "$$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; }; \
	stop() { echo "make: $$1" >&2; exit 1; }; \
	options=--quiet; \
	if ! $(BIN)/python -c 'import importlib.metadata as m; m.version("torch")' >/dev/null 2>&1; then \
	  options=; \
	  free=$$(df -Pk . | awk 'NR == 2 {print int($$4 / 1048576)}'); \
	  if [ "$$free" -lt $(MIN_FREE_GB) ]; then \
	    stop "set-up needs $(MIN_FREE_GB) GB of free disk and there are only $$free; free some, or lower it with make MIN_FREE_GB=3 if you use PyTorch's CPU-only wheels."; \
	  elif [ "$$free" -lt $(CACHE_FREE_GB) ]; then \
	    options=--no-cache-dir; \
	  fi; \
	fi; \
	if ! usable $(BIN)/python || ! $(BIN)/python -m pip --version >/dev/null 2>&1; then \
	  found=; old=; bare=; \
	  for candidate in $(CANDIDATES); do \
	    if usable "$$candidate"; then \
	      if "$$candidate" -c 'import ensurepip, venv' >/dev/null 2>&1; then found=$$candidate; break; fi; \
	      bare=$${bare:-$$candidate}; \
	    else \
	      version=$$("$$candidate" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) && old=$${old:-$$version}; \
	    fi; \
	  done; \
	  if [ -z "$$found" ] && [ -n "$$bare" ]; then \
	    stop "$$bare has no venv module; install it (on Debian and Ubuntu: apt install python3-venv) and run make again."; \
	  elif [ -z "$$found" ] && [ -n "$$old" ]; then \
	    stop "s2igan needs Python 3.11 or newer and only $$old was found; install one, or name it: make PYTHON=/path/to/python3."; \
	  elif [ -z "$$found" ]; then \
	    stop "no Python was found; install Python 3.11 or newer, or name it: make PYTHON=/path/to/python3."; \
	  fi; \
	  echo "Set-up: making $(VENV) with $$found ($$("$$found" -V))"; \
	  "$$found" -m venv --clear $(VENV) || stop "$$found could not make $(VENV); see its message above."; \
	fi; \
	echo "Set-up: installing s2igan and its dependencies into $(VENV) (the first time a large download, then a minute or two)"; \
	$(BIN)/python -m pip install $$options --disable-pip-version-check --editable '.[speech,piper,web,dev]' \
	  || stop "pip could not install the packages; see its message above, mend it and run make again."; \
	touch $@; \
	echo "Set-up: done"

# A process of one thread for each core.
test: $(INSTALLED)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile

check: $(INSTALLED)
	$(BIN)/python edge/shared_files.py
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m sphinx -q -W -b html docs/api build/api

dist: $(INSTALLED)
	$(BIN)/python .ci/try_wheel.py dist

gpu:
	@PYTHONPATH=src:$$PYTHONPATH $(PYTHON_GPU) benchmarks/gpu.py

# Each part leaves a mark when it is finished, so that a second `make demo` goes on where the first one stopped.
demo: $(INSTALLED)
	@$(BIN)/s2igan show $(DEMO_PAGE)
	@$(BIN)/s2igan run birds --recipe demo --captions 3 --out $(DEMO_RUN)
