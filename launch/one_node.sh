#!/usr/bin/env bash
# One machine with 8 GPUs, vLLM in the trainer's own processes. The same command goes on after a stop.
set -euo pipefail
torchrun --nproc-per-node 8 -m ptdpo train recipes/qwen3_vl_4b_ptd_grpo.yaml "$@"
