# Needs Python 3.11 or newer and make; everything else is installed into .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# Debian splits venv off from Python.
INSTALL_VENV := { test "$$(id -u)" = 0 && command -v apt-get >/dev/null && apt-get install -y -q python3-venv; } \
	|| { echo "Python's venv module is missing: install it (Debian, Ubuntu: apt install python3-venv)"; exit 1; }
FIND_BROWSER := for name in "$$CAGE_CHROMIUM" chromium chromium-browser google-chrome google-chrome-stable; do \
	test -n "$$name" && command -v "$$name" >/dev/null && exit 0; done; exit 1

.PHONY: up test test-kernel install check demo bench evaluate browser screenshots

up: install
	@$(BIN)/cage up

test: install browser
	@$(BIN)/python -m pytest

# The GPU kernel on a CPU, in Triton's interpreter; Triton is large, so newcomers are spared it.
test-kernel: install
	@$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[gpu]'
	@TRITON_INTERPRET=1 $(BIN)/python -m pytest tests/cage_core/test_cuda_kernel.py

# Tests that need a browser are skipped, and say so, where this fails.
browser:
	@( $(FIND_BROWSER) ) || { test "$$(id -u)" = 0 && grep -qx ID=debian /etc/os-release && echo "installing chromium" \
		&& apt-get update -q >/dev/null \
		&& DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends chromium fonts-dejavu-core >/dev/null; } \
		|| echo "no Chromium: browser tests will be skipped (Debian, Ubuntu: apt install chromium; or set CAGE_CHROMIUM)"

# Every page, light and dark, on a desktop and a phone, into docs/images.
screenshots: install browser
	@$(BIN)/python -m bench.screenshots

demo: install
	@$(BIN)/cage demo

bench: install
	$(BIN)/python -m bench.solver --out bench/results/solver.json
	$(BIN)/python -m bench.solver_robustness --games 200000 --out bench/results/solver_robustness.json
	$(BIN)/python -m bench.paper_claims --out bench/results/paper_claims.json
	$(BIN)/python -m bench.pocket
	$(BIN)/python -m bench.steering
	$(BIN)/python -m bench.decode
	$(BIN)/python -m bench.learner_speed
	$(BIN)/python -m bench.service
	$(BIN)/python -m bench.dashboard

# Half an hour on one quiet core; FULL=1 asks more prompts of all pairs of objectives.
evaluate: install
	$(BIN)/python -m bench.evaluation $(if $(FULL),--full)

check: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; set PYTHON=")'
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || $(INSTALL_VENV)
	@test -x $(BIN)/pip || $(PYTHON) -m venv --clear $(VENV)
	@echo "installing into $(VENV) (about 5 minutes the first time)"
	@$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[embedded,dev]'
	@echo "compiling the solver (about half a minute, once)"
	@$(BIN)/python -c 'from cage_core.engine.games import compile_solver; compile_solver()'
	@touch $@
