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
# The newest Python of the machine, if it has one that is newer than $(PYTHON): the quick tests run on it too.
NEWEST ?=
NEWEST_BIN := .venv-newest/bin

.PHONY: demo test test-newest check format bench bench-http bench-kernels bench-store bench-model clean
.DEFAULT_GOAL := demo

demo: $(READY)
	@exec $(BIN)/lookalike demo $(if $(PHOTOS),"$(PHOTOS)") --port $(PORT)

test: $(READY)
	$(BIN)/pytest

test-newest: .venv-newest/.ready
	$(NEWEST_BIN)/pytest -m "not integration"

check: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/biome check --error-on-warnings
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/clang-format --dry-run -Werror $(C_SOURCES) $(C_TESTS)
	$(BIN)/python -c "from lookalike.kernels import hamming; assert hamming.VARIANTS[0] != 'numpy', 'the native kernel was not built'"

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(BIN)/clang-format -i $(C_SOURCES) $(C_TESTS)
	$(BIN)/biome check --write

$(READY): requirements.lock pyproject.toml $(KERNEL_SOURCES)
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --require-hashes -r requirements.lock
	$(BIN)/pip install --quiet --no-build-isolation --no-deps --editable .
	touch $@

.venv-newest/.ready: requirements.lock pyproject.toml $(KERNEL_SOURCES)
	@test -x $(NEWEST_BIN)/python || test -n "$(NEWEST)" || { echo 'say which Python: make test-newest NEWEST=python3.13'; exit 2; }
	test -x $(NEWEST_BIN)/python || $(NEWEST) -m venv .venv-newest
	$(NEWEST_BIN)/pip install --quiet --require-hashes -r requirements.lock
	$(NEWEST_BIN)/pip install --quiet --no-build-isolation --no-deps --editable .
	touch $@

.venv/.peers: requirements-bench.lock $(READY)
	$(BIN)/pip install --quiet --require-hashes --no-deps -r requirements-bench.lock
	touch $@

bench: $(READY)
	$(BIN)/python benchmarks/walk.py $(if $(PHOTOS),"$(PHOTOS)",var/demo/sample-1200)

bench-http: $(READY)
	$(BIN)/python benchmarks/serving.py --out benchmarks/results/2026-11-http.json
	$(BIN)/python benchmarks/serving_hostile.py --out benchmarks/results/2026-11-hostile.json

bench-kernels: $(READY) .venv/.peers
	$(BIN)/python benchmarks/kernels.py $(N)

bench-store: $(READY)
	$(BIN)/python benchmarks/shard_memory.py 1000000
	$(BIN)/python benchmarks/words.py 1000000
	$(BIN)/python benchmarks/following.py 1e6
	$(BIN)/python benchmarks/following.py 5e6 --buckets 4 --upserts 20000
	$(BIN)/python benchmarks/store_writes.py 1250000

bench-model: $(READY)
	$(BIN)/python benchmarks/model.py ../shared/data/catalog

clean:
	rm -rf .venv .venv-newest build var *.egg-info kernels/_*.c kernels/*.so
