"""ptdpo: privileged tutoring distillation for RLVR."""

__version__ = "0.1.0"
