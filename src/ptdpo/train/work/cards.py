"""Graphics cards by name: memory, dense 16-bit operations and bytes per second, from their makers' data sheets."""

import re
from dataclasses import dataclass

# Name, memory in GB -> 10^12 dense bfloat16 operations per second with float32 sums, 10^12 bytes per second.
_SHEETS = {
    ("A100", 40): (312, 1.555),
    ("A100", 80): (312, 2.039),
    ("H100", 80): (989, 3.35),
    ("H100-PCIe", 80): (756, 2.0),
    ("H200", 141): (989, 4.8),
    ("B200", 180): (2250, 8.0),
    ("L40S", 48): (362, 0.864),
    ("RTX4090", 24): (165, 1.008),
}
_WRITTEN = re.compile(
    r"(?:(?P<count>\d+)x)?(?P<name>[A-Za-z][A-Za-z0-9]*(?:-PCIe)?)(?:-(?P<memory>\d+)GB)?", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class Card:
    """One GPU.

    Attributes:
        name: as it is called.
        memory: in GB, 10^9 bytes.
        flops: dense 16-bit operations per second.
        bandwidth: bytes per second to and from its memory.
    """

    name: str
    memory: float
    flops: float
    bandwidth: float


@dataclass(frozen=True, slots=True)
class Gpus:
    """So many of one card; ``None``: as many as the recipe says."""

    count: int | None
    card: Card


DEFAULT_CARD = "H100-80GB"


def gpus_named(written: str) -> Gpus:
    """Return the cards of ``8xH100-80GB``, ``8xH100``, ``H100`` or, of the default card, ``8``.

    Raises:
        ValueError: on a card that is not known.
    """
    if written.isdecimal():
        return Gpus(_counted(written, written), gpus_named(DEFAULT_CARD).card)
    parts = _WRITTEN.fullmatch(written)
    known = ", ".join(f"{name}-{memory}GB" for name, memory in _SHEETS)
    if parts is None:
        raise ValueError(f"--gpus {written}: write it as 8xH100-80GB; known are {known}")
    asked, memory = parts["name"].lower(), parts["memory"]
    found = [key for key in _SHEETS if key[0].lower() == asked and memory in (None, str(key[1]))]
    if not found:
        raise ValueError(f"--gpus {written}: this card is not known (known: {known}); take the nearest, with --memory")
    # Without a size, that of the largest.
    name, size = max(found, key=lambda key: key[1])
    flops, bandwidth = _SHEETS[name, size]
    count = None if parts["count"] is None else _counted(parts["count"], written)
    return Gpus(count, Card(f"{name}-{size}GB", size, flops * 1e12, bandwidth * 1e12))


def _counted(digits: str, written: str) -> int:
    if int(digits) < 1:
        raise ValueError(f"--gpus {written}: at least one")
    return int(digits)
