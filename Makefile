# Two commands: `make demo` and `make test`. Each sets up whatever it needs, in .venv.

PYTHON ?= python3
ENGINE ?= transformers
BIN := .venv/bin
# One thread per process: on few cores, threads that wait for each other cost more than they give.
export OMP_NUM_THREADS ?= 1

.PHONY: demo test install lint format bench clean

demo: install ## Finetune a small model, score its checkpoints, print what it could not solve
	$(BIN)/python -m lab.demo --engine $(ENGINE)

test: install lint ## Everything that has to hold, the real vLLM, PostgreSQL and browser included
	$(BIN)/python -m pytest -n 2 --dist loadfile

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: install ## Ratios measured side by side; takes a while
	for script in benchmarks/*.py; do $(BIN)/python $$script || exit 1; done

install: .venv/.installed

.venv/.installed: pyproject.toml service/pyproject.toml worker/pyproject.toml constraints.txt overrides.txt install.sh
	PYTHON=$(PYTHON) sh install.sh
	touch $@

clean:
	rm -rf .venv demo
