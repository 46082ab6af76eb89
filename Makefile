# `make serve` and `make test` are all the set-up there is: Python 3.11 or newer, and make.
PYTHON ?= python3
BIN := .venv/bin
.PHONY: serve example test test-quick coverage check torture hold hostile intake bench bench-quick copying posters catalog encoders pictures clean

serve: .venv/serve
	$(BIN)/imagefactory serve

# A site with responsive pictures, docs/responsive-pictures.md, on http://127.0.0.1:5000/
example: .venv/serve
	$(BIN)/python examples/app.py

# Tests that start no process share the cores; the others (servers, browsers, kills) run one after the other. One
# of the two may have nothing to do (exit 5) where ARGS names a file.
test: .venv/test
	$(BIN)/python -m pytest -n auto -m "not slow" $(ARGS) || [ $$? = 5 ]
	$(BIN)/python -m pytest -m slow $(ARGS) || [ $$? = 5 ]

# In memory, where 2 GB are free: the files of these tests are small and many.
test-quick: .venv/test
	[ "$$(df -Pk /dev/shm 2>/dev/null | awk 'END {print $$4}')" -gt 2000000 ] 2>/dev/null && export TMPDIR=/dev/shm; \
	$(BIN)/python -m pytest -n auto -m "not slow" -o tmp_path_retention_policy=failed $(ARGS)

# Also of the servers, workers and commands that the tests start.
coverage: .venv/coverage
	rm -f .coverage .coverage.*
	$(BIN)/coverage run -m pytest -q $(ARGS)
	$(BIN)/coverage combine -q
	$(BIN)/coverage report

check: .venv/check
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Kills, faults of the disk, deletions, flipped bits, jumps of the clock, each answer checked (docs/reliability.md):
# make torture N=300 SEED=1; ONLY=calls N=0 fails each call that there is, and takes two hours.
N ?= 300
SEED ?= 0
torture: .venv/test
	PYTHONPATH=tests $(BIN)/python -m support.torture --number $(N) --seed $(SEED) --only "$(ONLY)"

# What hits do while somebody attacks: make hold ONLY=waitress,nginx+granian ATTACKS=searches,headers SECONDS=60
SECONDS ?= 15
hold: .venv/test
	PYTHONPATH=tests $(BIN)/python -m support.hold --seconds $(SECONDS) $(if $(ONLY),--only $(ONLY)) \
		$(if $(ATTACKS),--attacks $(ATTACKS))

# What a server does while its external programs hang, flood, crash and fork: make hostile N=200 SEED=0
hostile: .venv/test
	PYTHONPATH=tests $(BIN)/python -m support.hostile --number $(N) --seed $(SEED)

# What vanishing and hostile clients and a killed server come to where pictures are taken in; 100 is all of it, half
# an hour: make intake N=100 SEED=1 ONLY=truncation,memory,rate,parser,exactness,kills,full,hits
intake: .venv/test
	PYTHONPATH=tests $(BIN)/python -m support.intake --number $(N) --seed $(SEED) --only "$(ONLY)"

# Side by side with what is installed of other servers, see docs/benchmarks.md: make bench ONLY=hits,cold PHOTOS=folder
export PHOTOS BENCH_THUMBOR BENCH_IPX
bench: .venv/bench
	$(BIN)/python -m benchmarks --only "$(ONLY)" $(ARGS)

bench-quick: .venv/bench
	$(BIN)/python -m benchmarks --quick --only "$(ONLY)" $(ARGS)

# What it costs to bring a program's output to a client, ours beside others (docs/programs.md): make copying SEED=1
copying: .venv/test
	$(BIN)/python -m benchmarks.copying --seed $(SEED)

# The processor time of posters of a film: key frame and exact frame (docs/programs.md)
posters: .venv/test
	$(BIN)/python -m benchmarks.posters --seed $(SEED)

# The processor time of the catalog's rows, and of its sync with a folder: make catalog SEED=1
catalog: .venv/test
	$(BIN)/python -m benchmarks.catalog --seed $(SEED)

# Fills the tables of docs/encoders.md; photographs of your own: make encoders PHOTOS=folder
encoders: .venv/test
	$(BIN)/python -m benchmarks.encoders "$(or $(PHOTOS),pictures)" $(ARGS)

# The sample pictures are committed; this draws them again.
pictures: .venv/serve
	$(BIN)/python tools/draw_pictures.py pictures

clean:
	rm -rf .venv build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis

.venv/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "imagefactory needs Python 3.11 or newer")'
	$(PYTHON) -m venv .venv

.venv/serve: setup.cfg pyproject.toml | .venv/bin/python
	PYTHONWARNINGS=ignore $(BIN)/pip install --quiet --disable-pip-version-check -e '.[fast,uploads]'
	touch $@

.venv/test: .venv/serve
	PYTHONWARNINGS=ignore $(BIN)/pip install --quiet --disable-pip-version-check -e '.[test,browser,fast,heif,jxl,video,pdf,svg,raw,granian,gunicorn,gevent]'
	touch $@

.venv/check: .venv/serve
	PYTHONWARNINGS=ignore $(BIN)/pip install --quiet --disable-pip-version-check -e '.[check]'
	touch $@

.venv/coverage: .venv/test
	PYTHONWARNINGS=ignore $(BIN)/pip install --quiet --disable-pip-version-check -e '.[coverage]'
	touch $@

.venv/bench: .venv/serve
	PYTHONWARNINGS=ignore $(BIN)/pip install --quiet --disable-pip-version-check -e '.[bench]'
	touch $@
