# Every target sets itself up: Python 3.11 or later, git and make are enough.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
TEST := -n 2 --dist worksteal -m "not proof"

.PHONY: demo test lint proof bench docs clean

demo: $(READY)
	$(BIN)/python demo/demo.py

test: lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(TEST)

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The slow proofs: run before an issue is resolved.
proof: $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[proof]'
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal -m proof

bench: $(READY)
	$(BIN)/python -m benchmarks

# The pages of the reference that are made of the code, and the pictures.
docs: $(READY)
	$(BIN)/python -m cogapp -P -r docs/reference/*.md
	$(BIN)/python -m docs.draw

$(READY): setup.py setup.cfg constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed: make PYTHON=...")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[demo,dev]'
	touch $@

clean:
	rm -rf .venv build dist *.egg-info
