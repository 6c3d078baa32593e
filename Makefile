# Plain `make` lists what there is.
PYTHON ?= python3
.DEFAULT_GOAL := help
.PHONY: help run test lint bench browser pocket chromium docs clean

help: ## list the commands
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-8s %s\n", $$1, $$2}'

.venv/run: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	touch .venv/run

.venv/dev: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch .venv/run .venv/dev

run: .venv/run ## install into .venv and serve the page on http://127.0.0.1:7860 (ARGS="--port 8000 --home DIR")
	.venv/bin/python app.py $(ARGS)

test: .venv/dev chromium ## install what the tests need and run them all, side by side (ARGS="-k merge")
	.venv/bin/python -m pytest -n auto --maxprocesses 4 $(ARGS)

browser: .venv/dev chromium ## only the tests that drive the page in a real Chromium
	.venv/bin/python -m pytest -m browser $(ARGS)

lint: .venv/dev ## style, unused code, formatting
	.venv/bin/ruff check . && .venv/bin/ruff format --check .

bench: .venv/dev ## measure what the docs claim; writes benchmarks/results/
	.venv/bin/python benchmarks/page_cost.py
	.venv/bin/python benchmarks/pocket.py
	.venv/bin/python benchmarks/spike.py
	.venv/bin/python benchmarks/onset.py
	.venv/bin/python benchmarks/memory.py
	.venv/bin/python benchmarks/live_chart.py
	.venv/bin/python benchmarks/train_cpu.py
	.venv/bin/python benchmarks/merging.py
	.venv/bin/python benchmarks/lora_merge.py
	.venv/bin/python benchmarks/data.py
	.venv/bin/python benchmarks/adapters.py costs
	.venv/bin/python benchmarks/adapters.py scores
	.venv/bin/python benchmarks/adapters.py picture

docs: .venv/run ## rewrite the parts of the docs that come from the code
	.venv/bin/python scripts/write_docs.py

pocket: .venv/run ## write the demo data sets anew (the demo model: scripts/pretrain_pocket.py)
	.venv/bin/python scripts/make_demos.py

chromium: # Debian's browser for the tests in browser/, where it is missing and can be had; they are skipped aloud without it
	@command -v chromium >/dev/null || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null \
	  && apt-get update -qq && apt-get install -y -qq chromium >/dev/null; } || true

clean: ## remove .venv and build products (never the workspace)
	rm -rf .venv build *.egg-info
