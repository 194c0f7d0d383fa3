"""Units by what they measure: dimensions over the base units, and exact sizes in them."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import cache, lru_cache

from ptdpo.text.words import vocabulary

Dimension = tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Unit:
    """A unit.

    Attributes:
        dimension: base units with their powers, sorted: (("m", 1), ("s", -1)) for km/h.
        size: in those base units.
        name: a single letter is also a variable; set for those only.
    """

    dimension: Dimension
    size: Fraction
    letter: str = ""


_PREFIXES = {
    "T": 12, "G": 9, "M": 6, "k": 3, "h": 2, "d": -1, "c": -2, "m": -3, "μ": -6, "u": -6, "n": -9, "p": -12,
}  # fmt: skip
_PREFIX_WORDS = {
    "tera": 12, "giga": 9, "mega": 6, "kilo": 3, "hecto": 2, "deci": -1, "centi": -2, "milli": -3, "micro": -6,
    "nano": -9, "pico": -12,
}  # fmt: skip
# Symbol and names: powers of g, m, s, A, K, mol, and size in them. All take prefixes.
_METRIC: dict[str, tuple[str, str]] = {
    "m": ("meter metre", "m"), "g": ("gram gramme", "g"), "s": ("second sec", "s"), "A": ("ampere amp", "A"),
    "K": ("kelvin", "K"), "mol": ("mole", "mol"), "N": ("newton", "1000 g m s-2"), "J": ("joule", "1000 g m2 s-2"),
    "W": ("watt", "1000 g m2 s-3"), "Pa": ("pascal", "1000 g m-1 s-2"), "V": ("volt", "1000 g m2 s-3 A-1"),
    "Ω": ("ohm", "1000 g m2 s-3 A-2"), "C": ("coulomb", "A s"), "Hz": ("hertz", "s-1"),
    "T": ("tesla", "1000 g s-2 A-1"), "F": ("farad", "1/1000 g-1 m-2 s4 A2"), "H": ("henry", "1000 g m2 s-2 A-2"),
    "Wb": ("weber", "1000 g m2 s-2 A-1"), "L": ("liter litre", "1/1000 m3"), "l": ("", "1/1000 m3"),
    "eV": ("electronvolt", "eV"), "cal": ("calorie", "cal"), "B": ("byte", "B"), "bit": ("", "bit"),
    "Bq": ("becquerel", "s-1"),
}  # fmt: skip
# These take none.
_PLAIN: dict[str, tuple[str, str]] = {
    "min": ("minute mins", "60 s"), "h": ("hour hr hrs", "3600 s"), "day": ("", "86400 s"), "week": ("", "604800 s"),
    "month": ("", "month"), "yr": ("year", "12 month"), "in": ("inch inches", "127/5000 m"),
    "ft": ("foot feet", "381/1250 m"), "yd": ("yard", "1143/1250 m"), "mi": ("mile", "201168/125 m"),
    "lb": ("lbs pound", "lb"), "oz": ("ounce", "1/16 lb"), "mph": ("", "201168/450000 m s-1"),
    "kph": ("kmh", "5/18 m s-1"), "cc": ("", "1/1000000 m3"), "ha": ("hectare", "10000 m2"), "acre": ("", "acre"),
    "gal": ("gallon", "gal"), "atm": ("", "atm"), "%": ("percent pct percentage", "1/100 %"), "°": ("degree deg", "°"),
    "rad": ("radian", "rad"), "°C": ("", "°C"), "°F": ("", "°F"), "¤": ("dollar usd", "¤"), "€": ("euro eur", "€"),
    "£": ("gbp", "£"), "¥": ("yuan rmb yen cny", "¥"), "¢": ("cent", "1/100 ¤"), "unit": ("", ""),
    "mM": ("", "mol m-3"), "μM": ("", "1/1000 mol m-3"),
    "rpm": ("", "rpm"), "dB": ("decibel", "dB"), "tonne": ("ton", "1000000 g"), "people": ("person", "person"),
    "元": ("", "¥"), "厘米": ("", "1/100 m"), "米": ("", "m"), "千米": ("", "1000 m"), "度": ("", "°"), "克": ("", "g"),
    "千克": ("", "1000 g"), "平方米": ("", "m2"), "平方厘米": ("", "1/10000 m2"), "立方米": ("", "m3"),
    "立方厘米": ("", "1/1000000 m3"), "毫米": ("", "1/1000 m"), "分米": ("", "1/10 m"), "升": ("", "1/1000 m3"),
    "毫升": ("", "1/1000000 m3"), "小时": ("", "3600 s"), "分钟": ("", "60 s"), "秒": ("", "s"),
}  # fmt: skip
_FACTOR = re.compile(r"([^\d\s^*/·().-]+)(?:\^?\(?(-?\d)\)?)?")
# "k Ω" and "μ m", which LaTeX sets apart.
_APART = re.compile(r"(?<![^\s/])([kMGm](?=\s+Ω)|μ(?=\s+[a-zA-Z]))\s+")
_POWER_WORDS = (
    (re.compile(r"\b(?:square|sq\.?)\s+([^\s*/^]+)"), r"\1^2"),
    (re.compile(r"\b(?:cubic|cu\.?)\s+([^\s*/^]+)"), r"\1^3"),
    (re.compile(r"([^\s*/^]+)\s+squared\b"), r"\1^2"),
    (re.compile(r"([^\s*/^]+)\s+cubed\b"), r"\1^3"),
    (re.compile(r"\bper cent\b"), "percent"),
    (re.compile(r"\s+(?:per|an)\s+"), "/"),
    (re.compile(r"°\s+(?=[CF]\b)"), "°"),
    (re.compile(r"\bdegrees?\s+(?:celsius|C)\b", re.IGNORECASE), "°C"),
    (re.compile(r"\bdegrees?\s+(?:fahrenheit|F)\b", re.IGNORECASE), "°F"),
)


@lru_cache(maxsize=4096)
def read_unit(text: str) -> Unit | None:
    """Return the unit that a whole text names, compound ones included: "km/h", "kg m^2 s^(-2)", "square feet"."""
    text = text.strip().replace("µ", "μ").replace("Ω", "Ω").replace("·", " ").replace("*", " ")
    for pattern, replacement in _POWER_WORDS:
        text = pattern.sub(replacement, text)
    text = _APART.sub(r"\1", text)
    size, powers = Fraction(1), dict[str, int]()
    pieces = text.split("/")
    if not text or len(pieces) > 3:
        return None
    for number, piece in enumerate(pieces):
        factors = piece.strip().removeprefix("(").removesuffix(")").split()
        if not factors:
            return None
        for factor in factors:
            found = _FACTOR.fullmatch(factor)
            known = _simple(found[1]) if found else None
            if found is None or known is None:
                return None
            power = int(found[2] or 1) * (-1 if number else 1)
            size *= known.size**power
            for base, exponent in known.dimension:
                powers[base] = powers.get(base, 0) + exponent * power
    dimension = tuple(sorted((base, power) for base, power in powers.items() if power))
    if len(dimension) > 1 and (powers.get("°C", 0) > 0 or powers.get("°F", 0) > 0):
        # Temperatures divide, "J/°C", and multiply nothing.
        return None
    return Unit(dimension, size, text if len(text) == 1 and text.isalpha() and text.isascii() else "")


def spoken_unit(name: str) -> Unit | None:
    """Return the unit that a word of running text names in lower case; "ma" is mA there, never MA."""
    symbols = [symbol for symbol in _symbols() if symbol.lower() == name]
    if symbols:
        return _symbols()[min(symbols, key=lambda symbol: (symbol != name, symbol[:-1] != name[:-1]))]
    return _words().get(name) or _words().get(name.removesuffix("s"))


def _simple(name: str) -> Unit | None:
    known = _symbols().get(name)
    if known is not None:
        return known
    # Words in any case; symbols in another case only if no other unit is written so.
    if len(name) < 2:
        return None
    low = name.lower()
    return _words().get(low) or _words().get(low.removesuffix("s")) or _folded().get(low)


@cache
def _symbols() -> dict[str, Unit]:
    table = {name: _unit(meaning) for name, (_, meaning) in (_METRIC | _PLAIN).items()}
    for symbol, (_, meaning) in _METRIC.items():
        base = _unit(meaning)
        for prefix, power in _PREFIXES.items():
            table.setdefault(prefix + symbol, Unit(base.dimension, base.size * Fraction(10) ** power))
    return table


@cache
def _words() -> dict[str, Unit]:
    table: dict[str, Unit] = {}
    for symbol, (names, meaning) in (_METRIC | _PLAIN).items():
        unit = _unit(meaning)
        for name in (*names.split(), *([symbol] if len(symbol) > 2 else [])):
            table[name] = unit
            if symbol in _METRIC:
                for prefix, power in _PREFIX_WORDS.items():
                    prefixed = Unit(unit.dimension, unit.size * Fraction(10) ** power)
                    table[prefix + name] = prefixed
                    if name == "ohm":
                        # kilohm, megohm.
                        table[prefix[:-1] + name] = prefixed
    return table


@cache
def _folded() -> dict[str, Unit]:
    table: dict[str, Unit | None] = {}
    for symbol, unit in _symbols().items():
        low = symbol.lower()
        same = low not in table or table[low] == unit
        table[low] = unit if same else None
    return {low: unit for low, unit in table.items() if unit is not None}


def _unit(meaning: str) -> Unit:
    size, powers = Fraction(1), {}
    for word in meaning.split():
        if re.fullmatch(r"\d+(?:/\d+)?", word):
            size *= Fraction(word)
        else:
            base, power = re.fullmatch(r"([^\d-]+)(-?\d)?", word).groups()  # type: ignore[union-attr]
            powers[base] = int(power or 1)
    return Unit(tuple(sorted(powers.items())), size)


# Of units, as words of running text: those that mean something else more often.
_MEANS_ELSE = vocabulary(
    """
    b c d f k t in us pm as ha pa ph pt pc ps un ut bit bits cal mole moles unit units th ca ch ta um uk hm ht ts hs gs
    da dc df dg dh dj dk dn ds dt dv dw
    """
)


@cache
def units_in_text() -> Mapping[str, Unit]:
    """Return the units that running text names, by their names in lower case."""
    found = {name: spoken_unit(name) for name in unit_names() - _MEANS_ELSE if name[0].isalpha()}
    return {name: unit for name, unit in found.items() if unit is not None}


@cache
def unit_names() -> frozenset[str]:
    """Return every name of a single unit, plurals of words included, in lower case."""
    words = frozenset(_words())
    return frozenset(name.lower() for name in _symbols()) | words | frozenset(f"{word}s" for word in words)
