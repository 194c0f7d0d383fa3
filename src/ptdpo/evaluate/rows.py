"""Ways to find the question and the answer in a row."""

from ptdpo.evaluate.benchmark import Row, RowReader
from ptdpo.rewards.extraction import last_boxed


def _turn(row: Row, role: str) -> str:
    """Return the content of the last turn of a role, empty if there is none."""
    turns = [message.get("content") for message in row["messages"] or [] if message.get("role") == role]
    return str(turns[-1] or "") if turns else ""


def _label(row: Row) -> str:
    """Return the assistant's turn; of a boxed one, what is in the box."""
    label = _turn(row, "assistant").strip()
    boxed = last_boxed(label)
    return label if boxed is None else boxed


# PAPO_eval: the user's turn is the whole prompt, the assistant's turn is the label.
MESSAGES = RowReader(("messages", "images"), lambda row: _turn(row, "user"), _label)
