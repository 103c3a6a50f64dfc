# Three commands: `make train`, `make test` and `make test-torcs`. All of them set
# up .venv first.
PYTHON ?= python3
FLAGS ?=

.PHONY: train test test-torcs
train: .venv/installed
	.venv/bin/python experiments/atari.py --preset=quick --game=pong $(FLAGS)

test: .venv/installed
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/python -m pytest --numprocesses 2 --dist worksteal

# Needs TORCS, which `make test` does without.
test-torcs: .venv/installed
	.venv/bin/python -m a3c_jax.envs.torcs.build
	.venv/bin/python -m pytest --numprocesses 2 --dist worksteal tests/*/*torcs*

.venv/installed: setup.py constraints.txt
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
