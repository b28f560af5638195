# Two commands are all that a fresh machine needs: `make demo` and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
WORKERS ?= 2

.PHONY: demo test test-all lint format bench clean

demo: $(VENV)/.installed            ## make tour/index.html: what the networks see, in a few minutes
	$(BIN)/saccade tour -o tour

test: $(VENV)/.installed-dev        ## the quick tests, on two processes of one thread each
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) -m "not slow" -q

test-all: $(VENV)/.installed-dev    ## the slow ones too
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) -q

lint: $(VENV)/.installed-dev        ## style, types, and imports that point down
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.installed-dev       ## the side-by-side measurements; hours, see benchmarks/
	$(BIN)/python benchmarks/data_pipeline.py
	$(BIN)/python benchmarks/train_step.py
	$(BIN)/python benchmarks/recurrent.py
	$(BIN)/python benchmarks/caption_train.py
	$(BIN)/python benchmarks/caption_decode.py
	$(BIN)/python benchmarks/captioning.py --seeds 3
	$(BIN)/python benchmarks/explain.py
	$(BIN)/python benchmarks/imagine.py
	$(BIN)/python benchmarks/scoreboard.py
	$(BIN)/python benchmarks/course_part1.py
	$(BIN)/python benchmarks/cifar_accuracy.py
	$(BIN)/python benchmarks/attack.py
	$(BIN)/python benchmarks/robustness.py
	$(BIN)/python benchmarks/certificates.py
	$(BIN)/python benchmarks/style.py
	$(BIN)/python benchmarks/style_gallery.py

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev,log,export]"
	touch $@

clean:
	rm -rf $(VENV) tour runs build dist
