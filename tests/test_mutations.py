"""Deliberate mistakes can be made: their lines are there, once, and so are the tests that should catch them."""

import re

import pytest

from tests.mutations import ROOT, read_mutations

MUTATIONS = read_mutations()


def test_names_are_unique():
    assert len({mutation.name for mutation in MUTATIONS}) == len(MUTATIONS)


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_the_line_and_the_tests_are_there(mutation):
    assert (ROOT / "src" / "ptdpo" / mutation.file).read_text(encoding="utf-8").count(mutation.old) == 1
    assert mutation.tests
    for test in mutation.tests:
        file, _, name = test.partition("::")
        text = (ROOT / file).read_text(encoding="utf-8")
        assert re.search(rf"^def {re.escape(name.partition('[')[0])}\(", text, re.MULTILINE) or not name
