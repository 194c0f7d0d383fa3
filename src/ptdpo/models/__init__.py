"""Loading processors and models, and the tiny Qwen3-VL that the demo and the tests train."""

from ptdpo.models.loading import load_model, load_processor
from ptdpo.models.tiny import TinyVLMSettings, make_tiny_lm, make_tiny_vlm

__all__ = ["TinyVLMSettings", "load_model", "load_processor", "make_tiny_lm", "make_tiny_vlm"]
