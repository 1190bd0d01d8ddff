# Two commands: `make demo` and `make test`. Each sets up whatever it needs, in .venv.

PYTHON ?= python3
ENGINE ?= transformers
BIN := .venv/bin
# One thread per process: on few cores, threads that wait for each other cost more than they give.
export OMP_NUM_THREADS ?= 1

.PHONY: demo test install lint lint-page format format-page bench clean

demo: install ## Finetune a small model, score its checkpoints, print what it could not solve
	$(BIN)/python -m lab.demo --engine $(ENGINE)

test: install lint ## Everything that has to hold, the real vLLM, PostgreSQL and browser included
	$(BIN)/python -m pytest -n 2 --dist loadfile

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	@if command -v npm >/dev/null; then $(MAKE) --no-print-directory lint-page; \
	else echo "no npm: format and types of the page are not checked" >&2; fi

lint-page: node_modules/.installed ## The page's JavaScript: formatted as prettier does, types checked by TypeScript
	npm run --silent lint

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	@if command -v npm >/dev/null; then $(MAKE) --no-print-directory format-page; \
	else echo "no npm: the page is not formatted" >&2; fi

format-page: node_modules/.installed
	npm run --silent format

bench: install ## Ratios measured side by side; takes a while
	for script in benchmarks/*.py; do $(BIN)/python $$script || exit 1; done

install: .venv/.installed

.venv/.installed: pyproject.toml service/pyproject.toml worker/pyproject.toml constraints.txt overrides.txt install.sh
	PYTHON=$(PYTHON) sh install.sh
	touch $@

# package.json pins exact versions of two packages that need no others, so there is nothing for a lock file to hold.
node_modules/.installed: package.json
	npm install --no-package-lock --no-audit --no-fund
	touch $@

clean:
	rm -rf .venv node_modules demo
