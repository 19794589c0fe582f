# Every target makes .venv when it is missing and installs what it needs.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo docs figures test lint bench-uncertainty bench-inference bench-metrics bench-gpu clean

demo: .venv/.core
	$(BIN)/bbnn-uq demo --out runs/demo

figures: .venv/.core
	$(BIN)/python docs/figures/overview.py
	$(BIN)/python docs/figures/two_moons.py
	$(BIN)/python docs/figures/regression_1d.py

# docs/_build/html/docs/index.html. Notebooks that have changed are executed; `make clean` forgets
# those of another state of the package.
docs: .venv/.test
	$(BIN)/sphinx-build --fail-on-warning --keep-going --quiet --conf-dir docs . docs/_build/html

# By file, since tests of a file share what is slow to make; one thread each, since threads that
# wait for a core cost more than they bring.
test: .venv/.test lint
	OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses auto --maxprocesses 4 --dist loadfile

lint: .venv/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/basedpyright
	$(BIN)/lint-imports

# Hours of training; it may be stopped and started again.
bench-uncertainty: .venv/.test
	OMP_NUM_THREADS=1 $(BIN)/python tests/benchmarks/uncertainty.py --epochs 10 --seeds 5
	OMP_NUM_THREADS=1 $(BIN)/python tests/benchmarks/uncertainty.py --epochs 40 --seeds 3
	OMP_NUM_THREADS=1 $(BIN)/python tests/benchmarks/uncertainty.py --time
	OMP_NUM_THREADS=1 $(BIN)/python tests/benchmarks/continual.py --out runs/bench-continual.json

# About half an hour on two cores that do nothing else. One rival comes without its
# dependencies, which are large and are not used.
bench-inference: .venv/.test
	$(BIN)/pip install --quiet --no-deps bayesian-torch==0.5.0
	$(BIN)/python tests/benchmarks/inference.py --out docs/benchmarks/inference.json

# Six minutes.
bench-metrics: .venv/.test
	$(BIN)/python -W ignore tests/benchmarks/metrics.py --out docs/benchmarks/metrics.json

# Needs a CUDA device, and torch as a build for it.
bench-gpu: .venv/.test
	$(BIN)/python tests/benchmarks/gpu.py --out docs/benchmarks/gpu.json

clean:
	rm -rf .venv runs docs/_build

$(BIN)/python:
	$(PYTHON) -m venv .venv

.venv/.core: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/pip install --quiet --constraint constraints.txt --editable .
	touch $@

.venv/.test: pyproject.toml constraints.txt tests/oracles.txt | $(BIN)/python
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[test]'
	$(BIN)/pip install --quiet --no-deps --requirement tests/oracles.txt
	touch $@
