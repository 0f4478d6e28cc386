# Two commands are enough: `make demo` and `make test`. Each alone does all the set-up it needs, in its
# own .venv, on any machine with make, Python >= 3.11 and its venv module (on Debian: python3-venv).
# Another interpreter than python3:   make test PYTHON=python3.12
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: help demo test lint bench prove-links schema clean

help:
	@echo 'make demo         a simulated experiment, a session file, a picture (three to four minutes)'
	@echo 'make test         every test'
	@echo 'make lint         style, types, floors between the rooms'
	@echo 'make bench        what is claimed to be fast, as ratios measured in one run'
	@echo 'make prove-links  no late, lost or cut answer is taken for another: 20 000 conversations'
	@echo 'make schema       write config/schema.json anew, after a change of the models'
	@echo 'make clean        remove .venv and what was built'

demo: $(VENV)/ready
	$(BIN)/coldframe demo

test: $(VENV)/ready
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder --durations 15

lint: $(VENV)/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/ready
	$(BIN)/python -m benchmarks

prove-links: $(VENV)/ready
	COLDFRAME_PROVE=20000 $(BIN)/python -m pytest -q -s tests/proofs/test_links.py

schema: $(VENV)/ready
	$(BIN)/python -c 'from coldframe.daemon.configuration import schema; print(schema(), end="")' > config/schema.new
	mv config/schema.new config/schema.json

$(VENV)/ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Coldframe needs Python 3.11 or newer, and $(PYTHON) is $$($(PYTHON) --version 2>&1)."; \
	  echo "Name another: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt \
	  --config-settings editable_mode=compat -e '.[dev]'
	@touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info
