# `make serve` and `make test` are all the set-up there is: Python 3.11 or newer, and make.
PYTHON ?= python3
BIN := .venv/bin
.PHONY: serve test check torture pictures clean

serve: .venv/serve
	$(BIN)/imagefactory serve

test: .venv/test
	$(BIN)/python -m pytest $(ARGS)

check: .venv/check
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Kills the server at random moments under load and checks every answer: make torture N=300 SEED=1
N ?= 300
SEED ?= 0
torture: .venv/test
	$(BIN)/python tests/torture.py --kills $(N) --seed $(SEED)

# The sample pictures are committed; this draws them again.
pictures: .venv/serve
	$(BIN)/python tools/draw_pictures.py pictures

clean:
	rm -rf .venv build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis

.venv/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "imagefactory needs Python 3.11 or newer")'
	$(PYTHON) -m venv .venv

.venv/serve: setup.cfg pyproject.toml | .venv/bin/python
	PYTHONWARNINGS=ignore $(BIN)/pip install --quiet --disable-pip-version-check -e .
	touch $@

.venv/test: .venv/serve
	PYTHONWARNINGS=ignore $(BIN)/pip install --quiet --disable-pip-version-check -e '.[test,heif]'
	touch $@

.venv/check: .venv/serve
	PYTHONWARNINGS=ignore $(BIN)/pip install --quiet --disable-pip-version-check -e '.[check]'
	touch $@
