"""Options out of range, named as the user wrote them before a command does anything.

Which numbers are taken is said once, in the types of the records that the options fill.
"""

from collections.abc import Mapping
from typing import Any

from ptdpo.values import Range, check_range, limits_of


def check_options(given: Mapping[str, Any], *records: type, **names: str) -> None:
    """Refuse options out of range.

    Args:
        given: a command's ``locals()``: options by the names of its parameters.
        records: the types that the options fill; a field that is no option is passed over.
        names: field -> parameter, where the two differ.

    Raises:
        ValueError: naming the option, its value and what it must be.
    """
    for record in records:
        check_ranges(given, limits_of(record), **names)


def check_ranges(given: Mapping[str, Any], limits: Mapping[str, Range], **names: str) -> None:
    """Refuse options outside limits by field; see ``check_options``."""
    for field, allowed in limits.items():
        name = names.get(field, field)
        check_range("--" + name.replace("_", "-"), given.get(name), allowed)
