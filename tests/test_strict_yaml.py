"""Recipes hold nothing that a reader would overlook, and nothing that grows when it is read."""

import pytest
import yaml

from ptdpo.config import read_recipe
from ptdpo.strict_yaml import StrictLoader


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("preset: grpo\npreset: dapo", "the key 'preset' stands twice"),
        ("train: {beta: 0, beta: 1}", "the key 'beta' stands twice"),
        ("a: &x [1]\nb: *x", "aliases are not supported"),
        ("a: " + "[" * 30 + "]" * 30, "nested deeper than 20 levels"),
        ("a: !!python/object/apply:os.system [ls]", "could not determine a constructor"),
    ],
)
def test_what_is_refused_is_one_line(tmp_path, text, message):
    (tmp_path / "r.yaml").write_text(text)
    with pytest.raises(ValueError, match=message) as refused:
        read_recipe(tmp_path / "r.yaml")
    assert "\n" not in str(refused.value)


def test_ordinary_yaml_is_read():
    text = "a: {b: [1, x], c: null}\nb: {b: 2}\n1: one"
    assert yaml.load(text, Loader=StrictLoader) == {"a": {"b": [1, "x"], "c": None}, "b": {"b": 2}, 1: "one"}
