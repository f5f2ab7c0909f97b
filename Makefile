# Everything on a fresh machine: `make demo` and `make test`. Each installs what it needs.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := build
.PHONY: help deps engine build wheel demo test test-cpp test-sanitizers test-python test-vllm test-gpu test-gpu-sanitizer bench-gpu bench-vllm gpu-bundle fuzz lint format bench docs clean

VENV := build/venv/bin
CMAKE = $(VENV)/cmake
JOBS ?= $(shell nproc)
TEST_JOBS = $(shell echo $$(($(JOBS) + 1)))  # some wait for a time limit
CMAKE_FLAGS ?=
# Expanded when used: the compiler may be installed by then.
NVCC = $(if $(shell command -v nvcc),,$(patsubst %,-DCMAKE_CUDA_COMPILER=%,$(wildcard $(CURDIR)/build/venv/lib/python3*/site-packages/nvidia/cu13/bin/nvcc)))
RESULTS := $(CURDIR)/build/test-results
GPU_PYTHON ?= $(VENV)/python
PYTHON ?= python3
FUZZ_SECONDS ?= 60
export PATH := /usr/bin:$(PATH)

help:    ## show this list
	@grep -hE '^[a-z-]+:.*##' Makefile | sed -E 's/:[^#]*##/\t/' | expand -t 18

deps:    ## packages of the distribution and a virtual environment
	@scripts/install-deps.sh

engine: deps  ## vLLM's CPU build, in the same environment
	@scripts/install-deps.sh --engine

build: deps  ## build/penstock, the extension, tests and benchmarks
	@$(CMAKE) -S . -B build/release -G Ninja -DPENSTOCK_PYTHON=ON \
	  -DPython_EXECUTABLE=$(CURDIR)/$(VENV)/python $(NVCC) $(CMAKE_FLAGS) >build/cmake.log || (cat build/cmake.log; exit 1)
	@ninja -C build/release -j$(JOBS) --quiet
	@ln -sfn release/penstock build/penstock
	@ln -sfn release/python build/python

wheel: deps  ## build/dist/penstock-*.whl, kernels included; PYTHON=python3.12 chooses whose
	@CMAKE_ARGS="$(NVCC) $(CMAKE_FLAGS)" $(PYTHON) -m pip --disable-pip-version-check wheel --quiet . --no-deps \
	  --wheel-dir build/dist
	@ls build/dist/*.whl

demo: build engine  ## save and restore a long prompt without an engine, then through a real vLLM
	build/penstock demo
	$(VENV)/python scripts/demo_vllm.py

test: deps  ## all tests: C++ (plain, sanitizers), Python, vLLM; ends with the count
	@$(MAKE) --no-print-directory -j2 build engine  # the one waits for the network
	@rm -rf $(RESULTS); mkdir -p $(RESULTS)
	@status=0; \
	$(MAKE) --no-print-directory lint || status=1; \
	$(MAKE) --no-print-directory test-cpp || status=1; \
	$(MAKE) --no-print-directory test-sanitizers || status=1; \
	$(MAKE) --no-print-directory test-python || status=1; \
	$(MAKE) --no-print-directory docs || status=1; \
	$(VENV)/python scripts/count_tests.py $(RESULTS) || status=1; \
	exit $$status

test-cpp: build
	@GTEST_OUTPUT=xml:$(RESULTS)/release/ GTEST_BRIEF=1 ctest --test-dir build/release --output-on-failure -j$(TEST_JOBS)

# Address and undefined behaviour together, threads apart: they cannot share a process.
test-sanitizers: deps
	@for kind in address,undefined thread; do \
	  dir=build/$${kind%%,*}; \
	  $(CMAKE) -S . -B $$dir -G Ninja -DPENSTOCK_SANITIZE=$$kind -DPENSTOCK_CLI=OFF \
	    -DPENSTOCK_BENCH=OFF $(NVCC) $(CMAKE_FLAGS) >build/cmake.log || { cat build/cmake.log; exit 1; }; \
	  ninja -C $$dir -j$(JOBS) --quiet; \
	  GTEST_OUTPUT=xml:$(RESULTS)/$${kind%%,*}/ GTEST_BRIEF=1 \
	  UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 TSAN_OPTIONS=halt_on_error=1 \
	    ctest --test-dir $$dir --output-on-failure -j$(TEST_JOBS); \
	done

test-python: build engine
	@PENSTOCK_CLI=$(CURDIR)/build/penstock PYTHONPATH=build/python $(VENV)/python -m pytest \
	  tests/python tests/vllm -m "not full" -q --junitxml=$(RESULTS)/python.xml

test-vllm: build engine  ## the whole matrix against the real engine (about half an hour)
	@PENSTOCK_CLI=$(CURDIR)/build/penstock PYTHONPATH=build/python $(VENV)/python -m pytest \
	  tests/vllm -q

test-gpu: build  ## the device's tests and the engine's over GPU memory; needs a GPU and torch with CUDA
	@for test in build/release/tests/gpu_*_test; do $$test --gtest_brief=1; done
	@PYTHONPATH=build/python $(GPU_PYTHON) -m pytest tests/gpu -q

test-gpu-sanitizer: build  ## the device's tests under compute-sanitizer: memory, then races; needs a GPU
	@for tool in memcheck racecheck; do compute-sanitizer --tool $$tool --report-api-errors no \
	  build/release/tests/gpu_cuda_device_test --gtest_brief=1; done

bench-gpu: build  ## the link, the drive and compute beside them, as JSON in build/
	PYTHONPATH=build/python $(GPU_PYTHON) bench/gpu.py --dir build --json build/bench-gpu.json

bench-vllm: build  ## a real vLLM's time to the first token beside its rivals; SYSTEMS="none ..." chooses
	PYTHONPATH=build/python $(GPU_PYTHON) bench/vllm_gpu.py $(if $(SYSTEMS),--only $(SYSTEMS)) --dir build \
	  --json build/bench-vllm.json

gpu-bundle: build  ## the two above and the tests, for a GPU machine without compilers; GPU_PYTHON=python3.12 chooses
	@scripts/gpu-bundle.sh $(GPU_PYTHON)

fuzz:    ## libFuzzer over everything that decodes, FUZZ_SECONDS each; corpus and finds in build/fuzz
	@scripts/install-deps.sh --fuzz
	@$(CMAKE) -S . -B build/fuzz -G Ninja -DCMAKE_CXX_COMPILER=clang++-14 -DPENSTOCK_FUZZ=ON \
	  -DPENSTOCK_SANITIZE=address,undefined,fuzzer-no-link -DPENSTOCK_CLI=OFF -DPENSTOCK_BENCH=OFF \
	  -DPENSTOCK_CUDA=OFF $(CMAKE_FLAGS) >build/cmake.log || (cat build/cmake.log; exit 1)
	@ninja -C build/fuzz -j$(JOBS) --quiet
	@cd build/fuzz; for program in tests/fuzz_*; do \
	  name=$${program#tests/}; mkdir -p corpus/$$name; \
	  UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 $$program corpus/$$name -artifact_prefix=$$name- \
	    -max_total_time=$(FUZZ_SECONDS) -timeout=30 -rss_limit_mb=4096 >$$name.log 2>&1 || \
	    { tail -40 $$name.log; exit 1; }; \
	  echo "$$name: $$(tail -1 $$name.log), $$(ls corpus/$$name | wc -l) inputs kept"; \
	done

lint: deps  ## formatting and static checks
	@git ls-files '*.cpp' '*.hpp' | xargs clang-format-14 --dry-run --Werror
	@$(VENV)/ruff check --quiet . && $(VENV)/ruff format --quiet --check .

format: deps
	@git ls-files '*.cpp' '*.hpp' | xargs clang-format-14 -i
	@$(VENV)/ruff check --quiet --fix . ; $(VENV)/ruff format --quiet .

bench: build  ## figures against the raw ceiling, as JSON in build/
	build/penstock bench --dir build --json build/bench.json

docs: build  ## the documentation site in build/site; a warning is an error
	@$(VENV)/sphinx-build -q -W --keep-going -b html docs build/site

clean:
	rm -rf build
