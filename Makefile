# make demo   installs edgec into .venv, builds the example for two targets, verifies and measures it
# make firmware-demo  builds the example (or MODEL) for CORES, and runs it on the boards that QEMU has of them
# make test   installs what tests need besides, and runs every check; CI runs this
# make quick  answers in two minutes, for every save: what CI lints, and the tests in QUICK
# make bench  measures every kernel and the example (and MODELS=DIR's models) here, beside the last saved run
# make records  tunes the example (and MODELS=DIR's models) here, BUDGET each, for the records edgec ships with
# make test-aarch64  runs edgec on 64-bit Arm, in a root that QEMU emulates where the machine is another (half an hour)
# make fuzz   tries random models and damaged files FOR some time; build/fuzz/ has what failed
# make clean  removes what they made, .venv too

PYTHON ?= python3
WORKERS ?= 2
# Tests in parallel: each worker holds TVM and, at times, a model; 2 need about 4 GB.

BIN := .venv/bin
EXAMPLE := fmnist_dscnn
ARM := build/$(EXAMPLE)-arm64-int8.edgec
HOST := build/$(EXAMPLE)-host-int8.edgec
RECORDS := build/records
LEVELS ?= x86-64-v3 x86-64-avxvnni x86-64-v4
BUDGET ?= 2m

BUILD := $(BIN)/edgec build examples/$(EXAMPLE).onnx --calibration examples/fmnist_calibration.npz

.PHONY: demo firmware-demo quick test test-aarch64 bench records fuzz clean
.DELETE_ON_ERROR:

demo: .venv/installed
	mkdir -p build
	$(BUILD) --target arm64-int8 --output $(ARM)
	$(BUILD) --target host-int8 --output $(HOST)
	$(BIN)/edgec verify $(HOST)
	@# Exit code 2: no emulator here, and edgec has said in one line how to get it.
	$(BIN)/edgec verify $(ARM) || test $$? -eq 2
	$(BIN)/edgec bench $(HOST)
	$(BIN)/python examples/accuracy.py $(HOST) $(ARM)
	@echo
	@echo "What to look at:"
	@echo "  $(ARM)/include/   the C API"
	@echo "  $(ARM)/src/       the driver that is in the library, as C"
	@echo "  $(ARM)/manifest.json"
	@echo "  $(HOST)/model.onnx   the quantized model, for Netron or ONNX Runtime"
	@echo "  examples/README.md   how to link the library into a C program"

CORES ?= cortex-m4 cortex-m7 cortex-m55
MODEL ?= examples/$(EXAMPLE).onnx
CALIBRATION ?= $(if $(filter examples/$(EXAMPLE).onnx,$(MODEL)),examples/fmnist_calibration.npz)
FIRMWARE := $(foreach core,$(CORES),build/$(notdir $(basename $(MODEL)))-$(core)-int8.edgec)

firmware-demo: .venv/installed
	mkdir -p build
	set -e; for core in $(CORES); do $(BIN)/edgec build $(MODEL) $(addprefix --calibration ,$(CALIBRATION)) \
	  --io int8 --target $$core-int8 --output build/$(notdir $(basename $(MODEL)))-$$core-int8.edgec; done
	@echo
	$(BIN)/python examples/firmware.py $(FIRMWARE)

# Calibration's matrix products on one thread: the workers are there to fill the cores.
test: export OPENBLAS_NUM_THREADS := 1
test: .venv/installed-dev
	@.ci/install-emulator
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pytest -n $(WORKERS) -q -rs --durations=10
	$(BIN)/pytest benchmarks --benchmark-disable -n $(WORKERS) -q

# Not a part of CI: there it would take longer than all else.
test-aarch64:
	@.ci/test-aarch64

# What most mistakes show in, and no more than two minutes of two cores: a test holds the list to files that exist.
QUICK := tests/compiler/compress tests/compiler/frontend tests/compiler/lower/graph tests/compiler/native \
  tests/compiler/operators tests/golden tests/kernels/test_definitions.py tests/targets tests/test_cache.py \
  tests/test_cli.py tests/test_docs.py tests/test_files.py tests/test_house.py tests/test_tests.py tests/test_words.py

quick: export OPENBLAS_NUM_THREADS := 1
quick: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pytest -n $(WORKERS) -q -m "not slow" $(QUICK)

# Saved runs lie in .benchmarks/, by machine; the first has nothing to be compared with.
bench: .venv/installed-dev
	EDGEC_BENCHMARK_MODELS=$(MODELS) $(BIN)/pytest benchmarks -q -p no:cacheprovider --benchmark-autosave \
	  --benchmark-sort=name --benchmark-columns=min,median,iqr,rounds \
	  $$(ls .benchmarks/*/*.json >/dev/null 2>&1 && echo --benchmark-compare)

.venv/python:
	$(PYTHON) -m venv .venv
	@touch $@

.venv/installed: .venv/python pyproject.toml
	$(BIN)/pip install --quiet --editable .
	@touch $@

.venv/installed-dev: .venv/python pyproject.toml
	$(BIN)/pip install --quiet --editable '.[dev]'
	@touch .venv/installed $@

records: export XDG_DATA_HOME := $(CURDIR)/$(RECORDS)
records: .venv/installed
	mkdir -p build
	set -e; for model in examples/$(EXAMPLE).onnx $(wildcard $(MODELS)/*.onnx); do \
	  $(BIN)/edgec build $$model --target x86-64-v3-int8 --output $(RECORDS)/tuned.edgec; \
	  for level in $(LEVELS); do $(BIN)/edgec tune $(RECORDS)/tuned.edgec --level $$level --budget $(BUDGET); done; \
	  $(BIN)/edgec build $$model --target x86-64-v3-int8 --reduce-range --output $(RECORDS)/tuned.edgec; \
	  $(BIN)/edgec tune $(RECORDS)/tuned.edgec --level x86-64-v3 --budget $(BUDGET); done
	$(BIN)/python -m edgec.compiler.records.shipped

FOR ?= 60m

fuzz: .venv/installed-dev
	$(BIN)/python -m tests.fuzz --for $(FOR)

clean:
	rm -rf .venv build .benchmarks *.egg-info
