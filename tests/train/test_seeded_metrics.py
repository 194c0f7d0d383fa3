"""Moving code changes no number: the first steps of every demo recipe, to the last digit."""

import json

import pytest

from tests.train.seeded_metrics import RECORDED, differences, make_world, recipes, run_case, this_machine

RECORD = json.loads(RECORDED.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return make_world(tmp_path_factory.mktemp("seeded"))


@pytest.mark.parametrize("name", list(recipes()))
def test_the_metrics_are_those_recorded(name, world, tmp_path):
    """To the last digit on the machine that wrote them; elsewhere sums are rounded in another order."""
    found = run_case(name, world, tmp_path)
    exact = RECORD["machine"] == this_machine()
    assert not differences(name, RECORD["steps"][name], found, exact=exact)
