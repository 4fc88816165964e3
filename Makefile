# Two commands for a newcomer: `make demo` and `make test`. Each sets up what it needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: demo test slow check install lint types site wheel clean

# Shorter training than the default's 40 epochs, so that two cores need three to ten minutes.
demo: $(INSTALLED)  ## The main job on the embedded world
	$(BIN)/kka run --sad.epochs 25

# A file's tests stay in one process, as they share what it makes once; one thread each, or the processes would contend.
# In the order of tests/conftest.py: xdist's own puts files of few tests last, and those are the long ones.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/pytest -q -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder \
	--durations=15

test: $(INSTALLED)  ## The tests but the slow ones: CPU, offline
	$(PYTEST) -m "not slow"

slow: $(INSTALLED)  ## The slow tests
	$(PYTEST) -m slow

check: lint types site  ## Everything, all tests in one go so that no core waits for the last of the fast ones
	$(PYTEST)

lint: $(INSTALLED)
	$(BIN)/ruff check .

types: $(INSTALLED)
	$(BIN)/mypy

site: $(INSTALLED)  ## The documentation as pages, in site/; a broken link or an unlisted page is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# The wheel alone in a fresh environment, which reads the libraries of .venv: torch is not installed twice.
wheel: $(INSTALLED)  ## A wheel, installed outside of the checkout: run, pool, review, train, export, a device
	work=$$(mktemp -d) && WORK=$$work OMP_NUM_THREADS=1 PYTHON=$(CURDIR)/$(BIN)/python INSTALL="-c $(CURDIR)/constraints.txt" \
		LIBRARIES="$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')" \
		examples/end_to_end.sh && rm -rf $$work

install: $(INSTALLED)

# torch and torchvision first, by pip: together they are most of the download, and pip can take them from a local
# index. uv then adds the rest in seconds, at the versions of constraints.txt.
$(INSTALLED): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --disable-pip-version-check -q -c constraints.txt torch torchvision uv
	VIRTUAL_ENV=$(CURDIR)/$(VENV) $(BIN)/uv pip install -q --python $(BIN)/python -c constraints.txt -e ".[dev]"
	touch $(INSTALLED)

clean:
	rm -rf $(VENV) build dist site src/*.egg-info
