"""Thin adapters to the engines: TRL's trainers with the method plugged in."""

from ptdpo.train.settings import PTDConfig
from ptdpo.train.trainer import PTDTrainer

__all__ = ["PTDConfig", "PTDTrainer"]
