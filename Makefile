# Everything makes its own environment; nothing needs to be installed first but Python 3.11+ and make.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test test-versions test-vllm lint format benchmarks clean

# The main job: a LangGraph workflow on the embedded engine, stock and with agentrt.  make demo ARGS=--json
demo: .venv/.demo
	@$(BIN)/agentrt demo $(ARGS)

# Every test that needs no vLLM.
test: .venv/.dev
	@$(BIN)/python -Im pytest -n auto --maxprocesses 8 $(ARGS)

# What touches LangGraph, on the oldest versions supported; `make test` has the newest.
test-versions: .venv-oldest/.ready
	@.venv-oldest/bin/python -Im pytest -n auto --maxprocesses 8 tests/langgraph tests/versions tests/examples tests/cli $(ARGS)

# A real vLLM server on the CPU: 4 GB to install, no GPU needed.
test-vllm: .venv-vllm/.ready
	@.venv-vllm/bin/python -Im pytest tests/vllm --override-ini=addopts= --import-mode=importlib --strict-markers -ra $(ARGS)

lint: .venv/.dev
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

format: .venv/.dev
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

benchmarks: .venv/.dev
	@$(BIN)/python tests/benchmarks/kv_queue.py
	@$(BIN)/python tests/benchmarks/kv_order.py
	@$(BIN)/python tests/benchmarks/langgraph_overhead.py
	@$(BIN)/python tests/benchmarks/tool_calls.py

clean:
	rm -rf .venv .venv-oldest .venv-vllm .cache

.venv/.demo: pyproject.toml
	@echo "installing agentrt for the demo (once)" >&2
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[demo]' >&2
	@touch $@

.venv/.dev: pyproject.toml
	@echo "installing agentrt for development (once)" >&2
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]' >&2
	@touch $@ .venv/.demo

.venv-oldest/.ready: pyproject.toml tests/versions/oldest.txt
	@echo "installing agentrt with the oldest versions it supports (once)" >&2
	@$(PYTHON) -m venv .venv-oldest
	@.venv-oldest/bin/python -m pip install --quiet --disable-pip-version-check -e '.[dev]' -c tests/versions/oldest.txt >&2
	@touch $@

.venv-vllm/.ready: pyproject.toml tests/vllm/install.sh
	@PYTHON=$(PYTHON) bash tests/vllm/install.sh .venv-vllm >&2
	@touch $@
