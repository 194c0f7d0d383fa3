"""Offline: from problems to hints."""

from ptdpo.hints.quality import HintVerdict, check_hint

__all__ = ["HintVerdict", "check_hint"]
