"""A file that is nested without an end is one line that names it, whoever reads it."""

import pytest

from ptdpo.chat.jobs import WorkFiles
from ptdpo.chat.lines import KeyedLines
from ptdpo.data.files import read_jsonl
from ptdpo.evaluate.settings import read_settings
from ptdpo.evaluate.store import ResponseStore
from ptdpo.hints.decisions import read_review
from ptdpo.train.metrics import read_metrics

READERS = {
    "rows": ("p.jsonl", lambda path: list(read_jsonl(path))),
    "hints": ("h.jsonl", lambda path: KeyedLines(path, lambda _: "")),
    "work files": ("h.requests.jsonl", lambda path: WorkFiles.beside(path.with_name("h.jsonl")).refuse_foreign()),
    "a review": ("r.json", read_review),
    "settings": ("settings.json", lambda path: read_settings(path.parent)),
    "responses": ("responses.jsonl", lambda path: ResponseStore(path.parent).read()),
    "metrics": ("metrics.jsonl", read_metrics),
}


@pytest.mark.parametrize("name", READERS)
def test_endless_nesting_is_one_line(tmp_path, name):
    file, read = READERS[name]
    (tmp_path / file).write_text("[" * 200_000 + "\n")
    with pytest.raises(ValueError, match=file):
        read(tmp_path / file)
