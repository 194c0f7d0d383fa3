"""The method over an engine (``method``, ``engine``), and the engine that there is: TRL (``trainer``, ``trl``)."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ptdpo.train.settings import PTDConfig
    from ptdpo.train.trainer import PTDTrainer

__all__ = ["PTDConfig", "PTDTrainer"]


def __getattr__(name: str) -> Any:
    """Load TRL when one of its subclasses is asked for: the method itself does without."""
    if name == "PTDConfig":
        from ptdpo.train.settings import PTDConfig

        return PTDConfig
    if name == "PTDTrainer":
        from ptdpo.train.trainer import PTDTrainer

        return PTDTrainer
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
