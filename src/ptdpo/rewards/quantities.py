"""Numbers with units, exactly."""

import re
from dataclasses import dataclass
from fractions import Fraction

_NUMBER = r"(?:\d{1,3}(?:,\d{3})+|\d{1,40})(?:\.\d{0,40})?|\.\d{1,40}"
_QUANTITY = re.compile(
    rf"(?P<sign>[+-]?)\s*(?P<currency>[¤€£¥]?)\s*(?P<top>{_NUMBER})"
    rf"(?:\s*[/:]\s*(?P<bottom>{_NUMBER}))?(?:\s*[*x]\s*10\s*\^\s*\(?(?P<power>[+-]?\d{{1,2}})\)?|e(?P<e>[+-]?\d{{1,2}}))?"
    r"\s*(?P<large>thousand|million|billion|trillion|k(?![a-z]))?\s*(?P<unit>[^\d\s][^=<>]{0,40})?"
)
_BRACKETED = re.compile(rf"(-?)\(\(({_NUMBER})\)/\(({_NUMBER})\)\)(.*)")
_MIXED = re.compile(r"(-?)\((\d{1,12})\+\(?(\d{1,12})\)?/\(?(\d{1,12})\)?\)(.*)")
_POWER_OF_UNIT = re.compile(r"(?:square|sq\.?) ([a-z]+)|(?:cubic|cu\.?) ([a-z]+)")
_WORDS = {
    word: str(number)
    for number, word in enumerate(
        (
            *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"),
            *("eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"),
            "twenty",
        )
    )
}
# Base unit and size in it.
_SCALES = {
    **{name: ("m", Fraction(size)) for name, size in (("mm", "1/1000"), ("cm", "1/100"), ("m", 1), ("km", 1000))},
    **{name: ("g", Fraction(size)) for name, size in (("mg", "1/1000"), ("g", 1), ("kg", 1000))},
    **{name: ("s", Fraction(size)) for name, size in (("s", 1), ("min", 60), ("h", 3600))},
    **{name: ("l", Fraction(size)) for name, size in (("ml", "1/1000"), ("l", 1))},
    "%": ("%", Fraction(1)),
}
_LARGE = {"k": 3, "thousand": 3, "million": 6, "billion": 9, "trillion": 12}
_ALIASES = {
    **dict.fromkeys(("millimeter", "millimetre"), "mm"),
    **dict.fromkeys(("centimeter", "centimetre"), "cm"),
    **dict.fromkeys(("meter", "metre"), "m"),
    **dict.fromkeys(("kilometer", "kilometre"), "km"),
    **dict.fromkeys(("gram", "gramme"), "g"),
    **dict.fromkeys(("kilogram", "kilo"), "kg"),
    **dict.fromkeys(("second", "sec"), "s"),
    **dict.fromkeys(("minute",), "min"),
    **dict.fromkeys(("hour", "hr"), "h"),
    **dict.fromkeys(("liter", "litre"), "l"),
    **dict.fromkeys(("kilometer", "kilometre"), "km"),
    **dict.fromkeys(("percent", "per cent", "percentage"), "%"),
    **dict.fromkeys(("°", "degree", "deg", "unit"), ""),
    **dict.fromkeys(("dollar", "usd"), "¤"),
    **dict.fromkeys(("foot", "feet"), "ft"),
    **dict.fromkeys(("inch", "inches"), "in"),
    "yuan": "¥",
    "newton": "n",
    "joule": "j",
    "watt": "w",
    "volt": "v",
    "ohm": "ω",
}
_SHORT_UNITS = frozenset(
    (
        *(
            "m",
            "cm",
            "mm",
            "km",
            "dm",
            "nm",
            "in",
            "ft",
            "yd",
            "mi",
            "pc",
            "g",
            "kg",
            "mg",
            "oz",
            "lb",
            "l",
            "ml",
            "cc",
        ),
        *("s", "h", "am", "pm", "hz", "v", "w", "kw", "j", "kj", "ev", "kn", "pa", "ω", "°c", "°f", "sq", "cu"),
        *("%", "°", "¤", "€", "£", "¥"),
    )
)
_KNOWN_UNIT = re.compile(
    r"(.*[\d)](?:\s*pi)?|.*pi)\s*("
    r"(?:(?:square|sq\.?|cubic) )?"
    r"(?:[mck]?m|k?g|(?:centi|milli|kilo)?met(?:er|re)s?|inch(?:es)?|in|f(?:ee|oo)?t|units?)"
    r"(?:\^\(?[23]\)?)?|%|°|degrees?)"
)
# Letters that stand for something else, and what makes an expression of it.
_NO_UNIT = re.compile(r"[-+*()!,⦃⦄\[\]]|(?:^|[^a-z])(?:pi|oo|sqrt|sin|cos|tan|log|ln|or|and|u)(?![a-z])")


@dataclass(frozen=True, slots=True)
class Quantity:
    """A number with its unit.

    Attributes:
        value: the number, in the base unit where the unit is a known one.
        unit: the base unit; "" without one, and for degrees.
        written: the number as written, whatever the unit.
        decimals: how many decimals were written; ``None`` for anything but a decimal.
        digits: how many significant digits were written.
    """

    value: Fraction
    unit: str
    written: Fraction
    decimals: int | None
    digits: int


def read_quantity(text: str) -> Quantity | None:
    """Return a plain answer (see ``plain``) as a number with its unit, or ``None``."""
    for pattern in (_MIXED, _BRACKETED):
        found = pattern.fullmatch(text)
        if found:
            *parts, unit = found.groups()
            return _quantity(_fraction(*parts), unit.strip(), None, 0)
    found = _QUANTITY.fullmatch(text)
    if not found:
        return None
    number = _decimal(found["top"])
    if found["bottom"]:
        bottom = _decimal(found["bottom"])
        number = number / bottom if bottom else None
    if number is not None:
        number *= Fraction(10) ** int(found["power"] or found["e"] or _LARGE.get(found["large"], 0))
        number *= -1 if found["sign"] == "-" else 1
    exact = any(found[name] for name in ("bottom", "power", "e", "large")) or "." not in found["top"]
    decimals = None if exact else len(found["top"].partition(".")[2])
    digits = len(found["top"].replace(",", "").replace(".", "").lstrip("0"))
    return _quantity(number, found["currency"] or (found["unit"] or "").strip(), decimals, digits)


def split_unit(text: str) -> tuple[str, tuple[str, Fraction]]:
    """Return an expression, and base and size of the known unit behind it, ("", 1) without: "6 sqrt(3) cm"."""
    found = _KNOWN_UNIT.fullmatch(text)
    return (found[1].strip(), _unit(found[2].strip())) if found else (text, ("", Fraction(1)))


def spelled_out(text: str) -> str:
    """Return a text with its first word as digits if it names a number up to twenty."""
    first, space, rest = text.partition(" ")
    return _WORDS.get(first, first) + space + rest


def same_quantity(given: Quantity, expected: Quantity) -> bool:
    """Return whether two quantities are equal, units included; 50 % is 0.5."""
    if given.unit == expected.unit:
        return given.value == expected.value
    values = {given.unit: given.value, expected.unit: expected.value}
    return values.keys() == {"%", ""} and values["%"] == 100 * values[""]


def nearly_same_quantity(given: Quantity, expected: Quantity) -> bool:
    """Return whether two quantities agree when a missing unit or per cent sign and rounding are forgiven.

    An answer may be rounded to three digits or more; the expected one to two or more.
    """
    if same_quantity(given, expected):
        return True
    if given.unit and expected.unit and given.unit != expected.unit:
        return False
    first, second = (given.value, expected.value) if given.unit == expected.unit else (given.written, expected.written)
    if first == second:
        return True
    rounded = [(q.decimals, q.digits) for q, least in ((given, 3), (expected, 2)) if q.digits >= least]
    places = [decimals for decimals, _ in rounded if decimals is not None]
    # Half a unit of the last place, and a little for halves rounded the other way.
    return (
        bool(places) and given.unit == expected.unit and abs(first - second) <= Fraction(501, 1000) / 10 ** min(places)
    )


def _quantity(number: Fraction | None, unit: str, decimals: int | None, digits: int) -> Quantity | None:
    if number is None or (unit and not _is_unit(unit)):
        return None
    base, scale = _unit(unit)
    return Quantity(number * scale, base, number, decimals, digits)


def _is_unit(text: str) -> bool:
    """Return whether a text can be a unit; "x" and "ab" are variables."""
    first = re.split(r"[\s/^]", text, maxsplit=1)[0]
    return not _NO_UNIT.search(text) and (len(first) > 2 or first in _SHORT_UNITS)


def _unit(text: str) -> tuple[str, Fraction]:
    """Return the base unit and its size in it."""
    top, slash, bottom = text.replace(" per ", "/").partition("/")
    if not slash:
        return _simple_unit(text)
    (name, scale), (other, size) = _simple_unit(top.strip()), _simple_unit(bottom.strip())
    return f"{name}/{other}", scale / size


def _simple_unit(text: str) -> tuple[str, Fraction]:
    power = _POWER_OF_UNIT.fullmatch(text)
    if power:
        text = f"{power[1]}^2" if power[1] else f"{power[2]}^3"
    name, caret, exponent = text.replace(" ", "").partition("^")
    name = _ALIASES.get(name, _ALIASES.get(name.removesuffix("s"), name if len(name) < 4 else name.removesuffix("s")))
    exponent = exponent.strip("()")
    base, scale = _SCALES.get(name, (name, Fraction(1)))
    if exponent.isdigit() and len(exponent) == 1:
        scale **= int(exponent)
    return base + caret + exponent if base else "", scale


def _fraction(sign: str, *parts: str) -> Fraction | None:
    numbers = [_decimal(part) for part in parts]
    whole, top, bottom = numbers if len(numbers) == 3 else (Fraction(0), *numbers)
    if not bottom:
        return None
    return (whole + top / bottom) * (-1 if sign else 1)


def _decimal(text: str) -> Fraction:
    return Fraction(text.replace(",", ""))
