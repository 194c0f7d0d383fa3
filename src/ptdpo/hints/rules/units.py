"""The units that hints name, as one writes them in running text: what they measure and their size in base units."""

from ptdpo.text.units import Dimension, spoken_unit

# Single letters and words that mean something else more often ("in", "c") are left out.
_NAMES = """
    m km cm mm metre metres meter meters kilometres kilometers centimetres centimeters g kg mg grams kilograms s ms min
    h second seconds minutes hours l ml litres liters a ma amperes ampere v kv mv volts volt n kn newtons newton ohm j w
    hz degrees degree dollars euros
"""
UNITS: dict[str, tuple[Dimension, float]] = {
    name: (unit.dimension, float(unit.size)) for name in _NAMES.split() if (unit := spoken_unit(name)) is not None
}
