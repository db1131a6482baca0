# Every target does its own set-up, and does it once: the stamp is newer than what it was made of.
PYTHON ?= python3
PHOTOS ?=
PORT ?= 8000
N ?= 1e6
BIN := .venv/bin
READY := .venv/.ready
C_SOURCES := $(wildcard kernels/c/*.[ch] kernels/c/isa/*.[ch])
C_TESTS := $(wildcard tests/kernels/*.c)
KERNEL_SOURCES := $(wildcard kernels/*.pyx) $(C_SOURCES)

.PHONY: demo test check format bench bench-kernels bench-model clean
.DEFAULT_GOAL := demo

demo: $(READY)
	@exec $(BIN)/lookalike demo $(if $(PHOTOS),"$(PHOTOS)") --port $(PORT)

test: $(READY)
	$(BIN)/pytest

check: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/clang-format --dry-run -Werror $(C_SOURCES) $(C_TESTS)
	$(BIN)/python -c "from lookalike.kernels import hamming; assert hamming.VARIANTS[0] != 'numpy', 'the native kernel was not built'"

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(BIN)/clang-format -i $(C_SOURCES) $(C_TESTS)

$(READY): requirements.lock pyproject.toml $(KERNEL_SOURCES)
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --require-hashes -r requirements.lock
	$(BIN)/pip install --quiet --no-build-isolation --no-deps --editable .
	touch $@

.venv/.peers: requirements-bench.lock $(READY)
	$(BIN)/pip install --quiet --require-hashes --no-deps -r requirements-bench.lock
	touch $@

bench: $(READY)
	$(BIN)/python benchmarks/walk.py $(if $(PHOTOS),"$(PHOTOS)",var/demo/sample-1200)

bench-kernels: $(READY) .venv/.peers
	$(BIN)/python benchmarks/kernels.py $(N)

bench-model: $(READY)
	$(BIN)/python benchmarks/model.py ../shared/data/catalog

clean:
	rm -rf .venv build var *.egg-info kernels/_*.c kernels/*.so
