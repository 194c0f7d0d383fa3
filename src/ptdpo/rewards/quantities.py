"""Numbers with units: 15 cm, 6√3 cm, 40%, 3.2·10^8, 2 1/4, $45, 12,600, forty-eight, 1 h 30 min."""

import re
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

from ptdpo.rewards.expressions import read_expression
from ptdpo.rewards.values import Number, as_real, same_value, scaled, value_of
from ptdpo.text.number_words import PARTS, SCALES, SMALL, in_words
from ptdpo.text.numbers import DECIMAL, read_decimal
from ptdpo.text.units import Dimension, Unit, read_unit
from ptdpo.text.words import vocabulary

_PLAIN_NUMBER = re.compile(rf"([+-]?)\s*({DECIMAL})")
_GROUPED_BY_SPACES = re.compile(r"([+-]?)(\d{1,3}(?: \d{3})+)(\.\d+)?")
_SCIENTIFIC = re.compile(rf"([+-]?(?:{DECIMAL}))[eE]([+-]?\d{{1,3}})")
_LARGE = re.compile(rf"([+-]?(?:{DECIMAL}))\s*(k|thousand|million|billion|trillion)", re.IGNORECASE)
_MONEY = re.compile(r"([+-]?)\s*([¤€£¥]|USD|US¤|EUR|RMB)\s*(.+)")
_ANGLE = re.compile(r"([+-]?\d+(?:\.\d+)?)°\s*(\d+(?:\.\d+)?)'(?:\s*(\d+(?:\.\d+)?)(?:\"|''))?")
_SUM = re.compile(rf"({DECIMAL})\s*([a-zA-Z]+)\s*(?:,|and)?\s*({DECIMAL})\s*([a-zA-Z]+)")
# "4 and 3/5".
_SPOKEN_MIXED = re.compile(r"(\d{1,9}) and \(*(\d{1,9})\)*/\(*(\d{1,9})\)*")
# A unit that LaTeX writes as a fraction: "45 \\frac{km}{h}".
_UNIT_FRACTION = re.compile(r"(?<=[\d)π]) ?\(\(([a-zA-Z°^\d ]+)\)/\(([a-zA-Z°^\d ]+)\)\)$")
# Where a unit may begin: after a figure, a bracket, π, a space.
_UNIT_START = re.compile(r"(?<=[\d)π%])(?=[^\W\d_]|[%°¤€£¥¢])|(?<=\s)(?=[^\W\d_]|[%°¤€£¥¢])|(?<=√)(?=a)")
# "cubes", "small metal cubes", "cubes in the image".
_COUNTED = re.compile(
    r"((?:[a-z-]{3,} ){0,2}(?:[a-z]{3,}s|people|children|men|women|feet|teeth|mice|fish|sheep))"
    r"(?: (?:in|on|at|with|around|under|above|below|behind|inside|near|between|that|which|left|remaining|from|after|for"
    r"|shown|visible)\b(?P<rest>[^\d,;:?!=<>]*))?"
)
# A unit that says of what: "2 inches long".
_MEASURED = re.compile(r" (?:long|wide|tall|high|deep|thick|away|apart|old|left|in (?:length|width|height|total))$")
_ONE_OF = vocabulary(
    """
    object item thing person man woman child dog cat bird car bus truck bike bicycle train plane ball cube sphere
    cylinder cone block triangle square circle rectangle line point angle side apple
    """
)
# Plurals that are no things to be counted, but change the number or say nothing of it.
_NUMBERS = frozenset(
    f"{word}{end}"
    for word in (*SCALES, *PARTS, *SMALL, "pair", "couple", "score", "power", "root", "double")
    for end in ("", "s")
)
_NOT_COUNTED = _NUMBERS | vocabulary(
    """
    times plus minus less more fewer always perhaps sometimes unless this thus guess yes is was has other others and or
    not than per out the each every another extra additional too without except
    """
)
# Nor may these stand in what says which things they are: "7 cubes in three rows", "7 cubes in one row and 2 more".
_NOT_BESIDE = (_NUMBERS - {"ones"}) | vocabulary(
    "and or but not no so if times plus minus more fewer maybe without except"
)
_MAX_POWER = 400
_DEGREES_OF_PI = read_expression("180/π")
_DEGREE, _RADIAN = (("°", 1),), (("rad", 1),)


@dataclass(frozen=True, slots=True)
class Quantity:
    """A number with its unit.

    Attributes:
        number: as written, per cent signs and units apart.
        unit: ``None`` without one.
        counted: what is counted, for a word that is no unit: "cubes".
        decimals: how many decimals were written; ``None`` for anything but a plain decimal.
        text: the number as written.
    """

    number: Number
    unit: Unit | None = None
    counted: str = ""
    decimals: int | None = None
    text: str = ""

    @property
    def is_share(self) -> bool:
        """Whether it is per cent."""
        return self.unit is not None and self.unit.dimension == (("%", 1),)

    @property
    def measure(self) -> Dimension:
        """What its unit measures; empty without one."""
        return self.unit.dimension if self.unit else ()

    @property
    def is_bare(self) -> bool:
        """Whether it has no unit and counts nothing."""
        return not self.counted and self.unit is None


@lru_cache(maxsize=4096)
def read_quantity(text: str) -> Quantity | None:
    """Return a plain answer as a number with its unit, or ``None``."""
    number = read_number(text)
    if number is not None:
        return Quantity(number, decimals=_decimals(text), text=text)
    mixed = _SPOKEN_MIXED.fullmatch(text)
    if mixed and int(mixed[2]) < int(mixed[3]):
        return Quantity(int(mixed[1]) + Fraction(int(mixed[2]), int(mixed[3])), text=text)
    money = _MONEY.fullmatch(text)
    if money:
        unit = read_unit({"USD": "¤", "US¤": "¤", "EUR": "€", "RMB": "¥"}.get(money[2], money[2]))
        inside = read_quantity(money[1] + money[3])
        return (
            None
            if inside is None or not inside.is_bare
            else Quantity(inside.number, unit, "", inside.decimals, inside.text)
        )
    angle = _ANGLE.fullmatch(text)
    if angle:
        minutes = Fraction(angle[2]) / 60 + Fraction(angle[3] or 0) / 3600
        return Quantity(Fraction(angle[1]) + (-minutes if angle[1][0] == "-" else minutes), read_unit("°"))
    return _with_unit(text) or _sum_of_units(text)


def read_number(text: str) -> Number | None:
    """Return the value of a number in any notation: decimal, fraction, mixed, root, power, in words; else ``None``."""
    found = _PLAIN_NUMBER.fullmatch(text) or _GROUPED_BY_SPACES.fullmatch(text)
    if found:
        digits = "".join(group or "" for group in found.groups()).replace(" ", "")
        return read_decimal(digits) if len(digits) <= _MAX_POWER else None
    found = _SCIENTIFIC.fullmatch(text)
    if found:
        return read_decimal(found[1]) * Fraction(10) ** int(found[2])
    found = _LARGE.fullmatch(text)
    if found:
        power = {"k": 1000, **SCALES}[found[2].lower()]
        return read_decimal(found[1]) * power
    if text.lower() == "half":
        return Fraction(1, 2)
    if re.search(r"\d", text) is None and re.match(r"[A-Za-z]{2}", text):
        return in_words(text)
    # "20-30" is a range or a score, no difference; per cent and degrees are units.
    if "%" in text or ("°" in text and "\\" not in text) or re.fullmatch(r"\d[\d.,]*\s*-\s*\d[\d.,]*", text):
        return None
    node = read_expression(text)
    return None if node is None else value_of(node)


def same_quantity(given: Quantity, expected: Quantity) -> bool:
    """Return whether two quantities are equal.

    A unit may be left out of the answer, or added to an expected number without one; one that is written must fit.
    50% is 0.5; 50 is accepted where 50% is expected, and 50% is not where 50 is.
    """
    if expected.is_share and given.is_bare:
        return same_value(given.number, scaled(expected.number, Fraction(1, 100))) or _same_number(given, expected)
    if given.is_share and expected.is_bare:
        return same_value(scaled(given.number, Fraction(1, 100)), expected.number)
    if _DEGREE in (given.measure, expected.measure) and given.measure != expected.measure:
        turned = _in_degrees(given), _in_degrees(expected)
        if turned[0] is not None and turned[1] is not None:
            return same_value(turned[0], turned[1])
    if given.is_bare or expected.is_bare:
        if given.is_bare and expected.unit is not None and expected.unit.letter and _is_glued(expected.text):
            # "2m" may be a unit or a variable: then it must be there.
            return False
        return _same_number(given, expected)
    if given.unit is None or expected.unit is None:
        return (
            _same_things(given.counted, expected.counted)
            and (given.unit is expected.unit)
            and _same_number(given, expected)
        )
    if given.unit.dimension != expected.unit.dimension:
        return False
    if given.unit.size == expected.unit.size:
        return _same_number(given, expected)
    return same_value(scaled(given.number, given.unit.size / expected.unit.size), expected.number)


def _same_things(given: str, expected: str) -> bool:
    """Return whether two counted things are the same, or one says what kind the other is: "red cubes", "cubes"."""
    first, second = sorted((given.removesuffix("s"), expected.removesuffix("s")), key=len)
    return first == second or (bool(first) and second.endswith(f" {first}"))


def _in_degrees(quantity: Quantity) -> Number | None:
    """Return an angle in degrees; a bare number is one, in radians, where it is a multiple of π."""
    if quantity.measure == _DEGREE:
        return quantity.number
    if quantity.measure == _RADIAN or (quantity.is_bare and "π" in quantity.text):
        degrees = value_of(_DEGREES_OF_PI)
        return None if degrees is None else as_real(quantity.number) * degrees
    return None


def _same_number(given: Quantity, expected: Quantity) -> bool:
    if same_value(given.number, expected.number):
        return True
    # An answer with more decimals than were asked for, which rounds to the expected number.
    more = (given.decimals or 0) > (expected.decimals or 0) > 0
    enough = len(re.sub(r"\D", "", expected.text).lstrip("0")) >= 3
    if not more or not enough or expected.decimals is None:
        return False
    half = Fraction(1, 2) / 10**expected.decimals
    return -half <= given.number - expected.number < half or abs(given.number - expected.number) < half


def _with_unit(text: str) -> Quantity | None:
    fraction = _UNIT_FRACTION.search(text)
    if fraction and re.match("[a-zA-Z]", fraction[1]):
        text = f"{text[: fraction.start()]} {fraction[1].strip()}/{fraction[2].strip()}"
    for found in _UNIT_START.finditer(text):
        number, unit = text[: found.start()].strip(), text[found.start() :].strip()
        if not number or not re.search(r"[\dπ)]$|^[A-Za-z-]+$", number):
            continue
        value = read_number(number)
        if value is None:
            continue
        known = read_unit(unit) or read_unit(_MEASURED.sub("", unit.replace("-old", " old")))
        if unit in ("unit", "units"):
            return Quantity(value, decimals=_decimals(number), text=number)
        if known is not None:
            glued = text[found.start() - 1 : found.start()] != " "
            return Quantity(value, known, "", _decimals(number), f"{number}~" if glued else number)
        counted = _COUNTED.fullmatch(unit)
        # What follows may say which things, but no second number and no alternative.
        if (
            counted
            and not _NOT_COUNTED.intersection(counted[1].split())
            and not _NOT_BESIDE.intersection((counted["rest"] or "").split())
        ):
            return Quantity(value, None, counted[1], _decimals(number), number)
        if value == 1 and unit in _ONE_OF:
            return Quantity(value, None, unit, _decimals(number), number)
    return None


def _is_glued(text: str) -> bool:
    return text.endswith("~")


def _sum_of_units(text: str) -> Quantity | None:
    """Read "1 h 30 min" and "5 ft 3 in", in the second unit."""
    found = _SUM.fullmatch(text)
    if not found:
        return None
    first, second = read_unit(found[2]), read_unit(found[4])
    large, small = read_number(found[1]), read_number(found[3])
    if first is None or second is None or large is None or small is None:
        return None
    if first.dimension != second.dimension or first.size <= second.size:
        return None
    return Quantity(large * (first.size / second.size) + small, second)


def _decimals(text: str) -> int | None:
    found = _PLAIN_NUMBER.fullmatch(text)
    return len(found[2].partition(".")[2]) if found else None
