"""Units by what they measure, with their size in the first unit of each line."""

UNITS: dict[str, tuple[str, float]] = {
    unit: (dimension, factor)
    for dimension, units in {
        "length": {
            "m": 1, "km": 1e3, "cm": 1e-2, "mm": 1e-3, "metre": 1, "metres": 1, "meter": 1, "meters": 1,
            "kilometres": 1e3, "kilometers": 1e3, "centimetres": 1e-2, "centimeters": 1e-2,
        },
        "mass": {"g": 1, "kg": 1e3, "mg": 1e-3, "grams": 1, "kilograms": 1e3},
        "time": {"s": 1, "ms": 1e-3, "min": 60, "h": 3600, "second": 1, "seconds": 1, "minutes": 60, "hours": 3600},
        "volume": {"l": 1, "ml": 1e-3, "litres": 1, "liters": 1},
        "current": {"a": 1, "ma": 1e-3, "amperes": 1, "ampere": 1},
        "voltage": {"v": 1, "kv": 1e3, "mv": 1e-3, "volts": 1, "volt": 1},
        "force": {"n": 1, "kn": 1e3, "newtons": 1, "newton": 1},
        "other": {"ohm": 1, "j": 1, "w": 1, "hz": 1, "degrees": 1, "degree": 1, "dollars": 1, "euros": 1},
    }.items()
    for unit, factor in units.items()
}  # fmt: skip
