"""How many rows a recipe trains on."""

import dataclasses

from ptdpo.config import DataSettings, Recipe
from ptdpo.data.files import write_problems
from ptdpo.train.work.problems import problems_of


def test_rows_are_counted_where_they_are(tmp_path, scenes):
    write_problems(tmp_path / "p.jsonl", [scene.problem for scene in scenes])
    data = DataSettings(path=str(tmp_path / "p.jsonl"))
    recipe = Recipe("grpo", "model", data)
    assert problems_of(recipe) == len(scenes) > 3
    assert problems_of(dataclasses.replace(recipe, data=dataclasses.replace(data, limit=3))) == 3


def test_a_public_data_set_is_known_others_are_not():
    known = DataSettings(source="hub", path="PAPOGalaxy/PAPO_ViRL39K_train")
    assert problems_of(Recipe("grpo", "model", known)) == 38_870
    assert problems_of(Recipe("grpo", "model", dataclasses.replace(known, split="test"))) is None
    assert problems_of(Recipe("grpo", "model", DataSettings(source="hub", path="some/rows"))) is None
    assert problems_of(Recipe("grpo", "model", DataSettings(path="no/such.jsonl"))) is None
    assert problems_of(Recipe("grpo", "model", DataSettings(source="easy-vqa"))) is None
