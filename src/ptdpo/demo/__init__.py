"""The demo: a tiny Qwen3-VL learns from its failed rollouts on a laptop, compared with plain GRPO."""
