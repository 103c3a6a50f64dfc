# `make train` trains on Pong. `make check` takes about a minute on two cores:
# run it before each commit. `make test` is what CI runs. `make test-torcs` needs
# TORCS, which the others do without. All of them set up .venv first.
PYTHON ?= python3
FLAGS ?=
PYTEST = .venv/bin/python -m pytest --numprocesses 2 --dist worksteal

.PHONY: train lint check test test-long test-torcs docs docs-serve dist release
train: .venv/installed
	.venv/bin/python experiments/atari.py --preset=quick --game=pong $(FLAGS)

# Style, types, and which part of the library imports which.
lint: .venv/installed
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/basedpyright
	.venv/bin/lint-imports

# The tests that start no run, no process and no engine, and compile little.
check: lint
	$(PYTEST) a3c_jax tests/unit

# All tests but those that take long. Those of one folder:
# `.venv/bin/python -m pytest tests/runs`, or `-m runs`.
test: lint
	$(PYTEST) -m 'not long'

# The few that CI has no time for. Run them after a change of what they test.
test-long: .venv/installed
	$(PYTEST) -m long

test-torcs: .venv/installed
	.venv/bin/python -m a3c_jax.envs.torcs.build
	$(PYTEST) tests/*/*torcs*

# The documentation site. Warnings are errors, and a link that leads nowhere in
# the repository is a warning.
docs: .venv/installed
	.venv/bin/python -m sphinx -qW --keep-going -c docs/site . build/docs
	@echo build/docs/index.html

docs-serve: docs
	.venv/bin/python -m http.server --directory build/docs --bind 127.0.0.1 8000

# What is released. What was built before is not removed by itself, and would be
# in the wheel.
dist: .venv/installed
	rm -rf build/lib build/bdist.* dist
	.venv/bin/pip install --quiet --constraint constraints.txt \
	  --editable '.[release]'
	.venv/bin/python -m build --no-isolation --outdir dist
	.venv/bin/twine check --strict dist/*

# Builds a version that is tagged: v0.2.0 is that of version 0.2.0.
release: VERSION = $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
release:
	@test -z "$$(git status --porcelain)" || \
	  { echo "error: some files are not committed" >&2; exit 2; }
	@git tag --points-at HEAD | grep -qxF 'v$(VERSION)' || \
	  { echo "error: this commit has no tag v$(VERSION)," \
	    "the version of pyproject.toml" >&2; exit 2; }
	@grep -qF '## [$(VERSION)]' CHANGELOG.md || \
	  { echo "error: CHANGELOG.md: no section [$(VERSION)]" >&2; exit 2; }
	$(MAKE) dist
	@echo 'to upload: .venv/bin/twine upload dist/*'

.venv/installed: pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || \
	  { echo "error: PYTHON=$(PYTHON): not found" >&2; exit 2; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "error: PYTHON=$(PYTHON): older than Python 3.11" >&2; exit 2; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || \
	  { echo "error: PYTHON=$(PYTHON): no venv module; on Debian:" \
	    "apt-get install python3-venv" >&2; exit 2; }
	rm -rf .venv
	$(PYTHON) -m venv .venv
	.venv/bin/pip install --quiet --constraint constraints.txt \
	  --editable '.[test]'
	touch $@
