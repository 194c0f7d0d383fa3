"""Times, ratios and ranges: numbers that stand side by side and are no arithmetic."""

import re
from dataclasses import dataclass

from ptdpo.rewards.expressions import Node, read_expression
from ptdpo.rewards.kinds import Same
from ptdpo.rewards.quantities import Quantity, read_number, read_quantity
from ptdpo.rewards.values import same_function
from ptdpo.text.number_words import SMALL

_HALF = r"(?:\s*(?P<half>[ap])\.?\s?m\.?)"
_HALVES = (
    (re.compile(r" in the morning$", re.IGNORECASE), " am"),
    (re.compile(r" in the (?:afternoon|evening)$", re.IGNORECASE), " pm"),
)
_CLOCK = re.compile(rf"(?P<hour>\d{{1,2}}):(?P<minute>[0-5]\d)(?::(?P<second>[0-5]\d))?{_HALF}?", re.IGNORECASE)
# With a point only where it can be no decimal.
_POINTED = re.compile(rf"(?P<hour>\d{{1,2}})\.(?P<minute>[0-5]\d){_HALF}", re.IGNORECASE)
_HOUR = re.compile(rf"(?P<hour>\d{{1,2}}){_HALF}", re.IGNORECASE)
_O_CLOCK = re.compile(rf"(?P<hour>\d{{1,2}}|[a-z]+)(?::(?P<minute>[0-5]\d))?\s*o'?\s*clock{_HALF}?", re.IGNORECASE)
_SPOKEN = re.compile(
    rf"(?P<part>half|quarter|[a-z-]+|\d{{1,2}})\s*(?:minutes?\s+)?(?P<way>past|to)\s+(?P<hour>[a-z]+|\d{{1,2}}){_HALF}?",
    re.IGNORECASE,
)
# "seven forty-five", "ten oh five"; "seven forty" alone is as good.
_IN_WORDS = re.compile(
    r"(?P<hour>[a-z]+) (?:(?:oh|o) (?P<few>[a-z]+)"
    r"|(?P<minute>(?:ten|eleven|twelve|[a-z]+teen|twenty|thirty|forty|fifty)"
    rf"(?:[ -](?:one|two|three|four|five|six|seven|eight|nine))?)){_HALF}?",
    re.IGNORECASE,
)
_DATE = re.compile(r"(\d{1,4})([-/.])(\d{1,2})\2(\d{1,4})")
_END = r"[+-]?[¤€£¥]?\s*(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:\s*[^\d\s+*/^()=<>,;-][^\d+*()=<>,;]{0,20}?)?"
_RANGE = re.compile(
    rf"(?P<lead>between|from)?\s*(?P<low>{_END})\s*(?P<joint>-|to|through|until|and|~)\s*(?P<high>{_END})"
)


# "AB:CD = 3:4".
_SEGMENTS = re.compile(r"^[A-Za-z]{1,3}(?:_\w)?(?: ?: ?[A-Za-z]{1,3}(?:_\w)?)+ ?= ?")


@dataclass(frozen=True, slots=True)
class Time:
    """A time of day, or minutes and seconds; ``half`` is "a" or "p" where it is given."""

    hour: int
    minute: int
    second: int
    half: str
    text: str


def read_time(text: str) -> Time | None:
    """Return "4:20", "7:45 PM", "19:45", "3 o'clock", "half past two" as a time; two figures of minutes make one."""
    for pattern in (_CLOCK, _POINTED, _HOUR, _O_CLOCK):
        found = pattern.fullmatch(text)
        if found:
            parts = found.groupdict()
            hour = _hour(parts["hour"])
            if hour is None:
                return None
            return Time(
                hour, int(parts.get("minute") or 0), int(parts.get("second") or 0), (parts["half"] or "").lower(), text
            )
    for pattern, half in _HALVES:
        if pattern.search(text):
            return read_time(pattern.sub(half, text))
    found = _IN_WORDS.fullmatch(text)
    hour = _hour(found["hour"]) if found else None
    if found and hour and hour <= 12:
        minutes = SMALL.get((found["few"] or "").lower()) if found["few"] else read_number(found["minute"])
        if minutes is None or minutes != int(minutes) or not 0 < minutes < 60:
            return None
        return Time(hour, int(minutes), 0, (found["half"] or "").lower(), text)
    found = _SPOKEN.fullmatch(text)
    hour = _hour(found["hour"]) if found else None
    if not found or hour is None:
        return None
    minutes = {"half": 30, "quarter": 15}.get(found["part"].lower()) or read_number(found["part"])
    if minutes is None or minutes.denominator != 1 or not 0 < minutes < 60:
        return None
    if found["part"].isdigit() and found["way"].lower() == "to" and "minute" not in found[0].lower():
        # "5 to 10" is a range.
        return None
    half = (found["half"] or "").lower()
    if found["way"].lower() == "past":
        return Time(hour, int(minutes), 0, half, text)
    if half and hour % 12 == 0:
        half = "a" if half == "p" else "p"
    return Time((hour - 2) % 12 + 1, 60 - int(minutes), 0, half, text)


def same_time(given: str, expected: Time, same: Same) -> bool:
    """Return whether an answer is that time; "16:25" may also be a ratio, which is never reduced then."""
    time = read_time(given)
    if time is None:
        literal = re.split(r"\s*(?:/|\bto\b)\s*", re.sub(r"[()]", "", given))
        return not expected.half and literal == expected.text.split(":") and len(literal) == 2
    if (time.minute, time.second) != (expected.minute, expected.second):
        return False
    if expected.half and time.half:
        return (time.hour, time.half) == (expected.hour, expected.half)
    if expected.half:
        # 19:45, and 9:30 for half past nine in the morning; 7:45 is not enough for the evening.
        return time.hour == _of_day(expected)
    if time.half:
        return expected.hour in (time.hour, _of_day(time))
    return time.hour == expected.hour


def read_date(text: str) -> tuple[int, ...] | None:
    """Return the numbers of "04/02/2005" and "2020-05-05"; they are no quotient and no difference."""
    found = _DATE.fullmatch(text)
    return (int(found[1]), int(found[3]), int(found[4])) if found else None


def same_date(given: str, expected: tuple[int, ...], same: Same) -> bool:
    """Return whether an answer has the same numbers in the same order, with any sign between them."""
    return read_date(given) == expected


@dataclass(frozen=True, slots=True)
class Ratio:
    """A ratio by its terms; a "spoken" one, "2 to 3", is compared term by term, as it may be a range."""

    terms: tuple[Node, ...]
    spoken: bool = False


def read_ratio(text: str) -> Ratio | None:
    """Return "3:5", "1:2:3", "√2:1" as a ratio."""
    terms = [read_expression(part.strip()) for part in text.split(":")]
    if len(terms) < 2 or any(term is None for term in terms):
        return None
    return Ratio(tuple(term for term in terms if term is not None))


def same_ratio(given: str, expected: Ratio, same: Same) -> bool:
    """Return whether an answer is that ratio in any terms: 6:10, 3/5, "3 to 5" and 0.6 are 3:5."""
    given = _SEGMENTS.sub("", given)
    found = read_ratio(re.sub(r"\s+to\s+", ":", given))
    if found is None and len(expected.terms) == 2:
        whole = read_expression(given)
        return whole is not None and not _is_pair(given) and same_function(whole, Node("/", expected.terms))
    if found is None or len(found.terms) != len(expected.terms):
        return False
    first, other = found.terms[0], expected.terms[0]
    return all(
        same_function(Node("*", (first, theirs)), Node("*", (other, ours)))
        for ours, theirs in zip(found.terms[1:], expected.terms[1:], strict=True)
    )


@dataclass(frozen=True, slots=True)
class NumberRange:
    """Two numbers joined by a dash or "to"."""

    low: Quantity
    high: Quantity
    joint: str


def read_range(text: str) -> NumberRange | None:
    """Return "15-25", "30 to 40 kg", "between 2 and 3" as a range; units of the second hold for the first."""
    found = _RANGE.fullmatch(text)
    if not found or (found["joint"] == "and") != (found["lead"] == "between"):
        return None
    low, high = read_quantity(found["low"].strip()), read_quantity(found["high"].strip())
    if low is None or high is None:
        return None
    if high.unit is None and found["low"][0] in "¤€£¥":
        high = Quantity(high.number, low.unit, "", high.decimals, high.text)
    if low.unit is not None and high.unit is None:
        return None
    if low.unit is None:
        low = Quantity(low.number, high.unit, high.counted, low.decimals, low.text)
    return NumberRange(low, high, found["joint"])


def same_range(given: str, expected: NumberRange, same: Same) -> bool:
    """Return whether an answer is that range, end by end; a unit may be left out."""
    from ptdpo.rewards.quantities import same_quantity

    spoken = expected.joint == "to" and re.fullmatch(r"[\d.,]+\s*:\s*[\d.,]+", given)
    closed = re.fullmatch(r"\[\s*([^,\[\]]+?)\s*,\s*([^,\[\]]+?)\s*\]", given)
    given = f"{closed[1]}-{closed[2]}" if closed else given
    found = read_range(given.replace(":", "-") if spoken else given)
    return found is not None and same_quantity(found.low, expected.low) and same_quantity(found.high, expected.high)


def _is_pair(text: str) -> bool:
    return re.fullmatch(r"\d[\d.,]*\s*-\s*\d[\d.,]*", text) is not None


def _hour(text: str) -> int | None:
    hour = SMALL.get(text.lower(), 99) if text.isalpha() else int(text)
    return hour if hour <= 24 else None


def _of_day(time: Time) -> int:
    return time.hour % 12 + (12 if time.half == "p" else 0)
