# Every target sets itself up from nothing, with uv if it is installed, else with venv and pip.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export MPLBACKEND := Agg
# Most read GLASSHOUSE_DATA; together they take about an hour and a half on two cores. The others, such
# as serving, many_processes, explain_shapes and live_page, describe how to run them.
BENCHES := train_speed busy tutorial_accuracy to_accuracy folder_memory cifar_memory \
	finder_cost finder_rates many_files tuner_kill budget explain_page explain_cam explain_memory \
	transfer_hymenoptera transfer_cifar feature_speed finetune_step startup pixel_passes

# The dependencies that the package allows, at both ends; each has an environment of its own.
NEWEST := .venv-newest
LOWEST := .venv-lowest
NEWEST_PYTHON ?= 3.13
LOWEST_PYTHON ?= 3.11
# The mutation tester, apart from the dependencies of the package.
MUTANTS := .venv-mutants
UV = $$(command -v uv || echo $(BIN)/uv)

.PHONY: setup tour test newest lowest uv lint check slow campaign mutants bench speed docs figures clean

$(VENV)/installed: pyproject.toml
	@echo "setting up $(VENV): a few minutes, most of them for torch"
	@if command -v uv >/dev/null 2>&1; then \
		uv venv --allow-existing $(VENV) && uv pip install --python $(BIN)/python -e '.[dev]'; \
	else \
		$(PYTHON) -m venv $(VENV) && $(BIN)/python -m pip install --quiet -e '.[dev]'; \
	fi
	@touch $@

setup: $(VENV)/installed

tour: setup
	$(BIN)/glasshouse tour

test: lint
	# Two processes of one thread each: threads that wait for each other would take the cores from both.
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2

uv: setup
	@command -v uv >/dev/null 2>&1 || $(BIN)/python -m pip install --quiet uv

# The newest versions of everything, on Python 3.13 if uv finds one.
newest: uv
	$(UV) venv --allow-existing --python $(NEWEST_PYTHON) $(NEWEST) || $(UV) venv --allow-existing $(NEWEST)
	$(UV) pip install --python $(NEWEST)/bin/python --upgrade -e '.[dev]'
	OMP_NUM_THREADS=1 $(NEWEST)/bin/python -m pytest -n 2

# The lowest versions that pyproject.toml allows, on the oldest Python.
lowest: uv
	$(UV) venv --allow-existing --python $(LOWEST_PYTHON) $(LOWEST)
	$(UV) pip install --python $(LOWEST)/bin/python --resolution lowest-direct -e '.[dev]'
	OMP_NUM_THREADS=1 $(LOWEST)/bin/python -m pytest -n 2

lint: setup
	$(BIN)/ruff check src tests bench docs examples
	$(BIN)/ruff format --check src tests bench docs examples
	$(BIN)/mypy

# What is quick enough for every commit.
check: lint
	$(BIN)/python -m pytest -q tests/architecture

slow: setup
	$(BIN)/python -m pytest -m 'slow or realdata or browser'

# Damage of every kind, seeded; a small part of it is in the default tests.
campaign: setup
	$(BIN)/python -m pytest -m 'slow or not slow' tests/campaign

# Faults that the tests should notice, some in each core package; takes hours, above all the first
# time, when it sees which test executes what. For example:
# make mutants ARGUMENTS="training --count 50 --seed 1"
mutants: uv
	$(UV) venv --allow-existing $(MUTANTS)
	$(UV) pip install --python $(MUTANTS)/bin/python 'cosmic-ray>=8.7,<9'
	$(MUTANTS)/bin/python bench/mutants.py $(ARGUMENTS)

bench: setup
	$(BIN)/python -m pip install --quiet -e '.[bench]' || uv pip install --python $(BIN)/python -e '.[bench]'
	$(BIN)/python -m pytest -m slow tests/test_tutorial_in_keras.py || failed=1; \
	for script in $(BENCHES); do $(BIN)/python bench/$$script.py || failed=1; done; exit $${failed:-0}

# README's table of speed for this machine, with nothing else running on it: more than half an hour.
speed: setup
	$(BIN)/python -m pip install --quiet -e '.[bench]' || uv pip install --python $(BIN)/python -e '.[bench]'
	$(BIN)/python bench/speed_table.py $(ARGUMENTS)

# Material warns about MkDocs 2, which the bounds in pyproject.toml exclude.
docs: setup
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict
	@echo "open site/index.html"

# The images in docs/images: run it after a change of pages, sheets or the tutorial. Needs Chromium.
figures: setup
	$(BIN)/python docs/figures.py

clean:
	rm -rf $(VENV) $(NEWEST) $(LOWEST) $(MUTANTS) site .mypy_cache .ruff_cache .pytest_cache
