"""The card says what was done."""

import yaml

from ptdpo.config import DataSettings, LoraSettings, Recipe
from ptdpo.train.model_card import model_card
from ptdpo.train.plan import Plan, resolved_settings


def card(recipe):
    plan = Plan(recipe, 40, 30, 20, 4, 16, 4, 12, 1, "")
    return model_card(plan, resolved_settings(recipe))


def test_a_tutored_run_names_preset_teacher_context_lambda_data_hints_and_base_model():
    data = DataSettings(path="p.jsonl", hints="h.jsonl")
    shown = card(Recipe("ptd-grpo", "owner/base", data=data, train={"tutoring_weight": 0.05}))
    header = yaml.safe_load(shown.split("---\n")[1])
    assert header == {"base_model": "owner/base", "library_name": "transformers", "tags": ["ptdpo", "ptd-grpo"]}
    for row in ("preset | ptd-grpo", "teacher | frozen", "teacher reads | hint", "lambda | 0.05",
                "data | p.jsonl (jsonl), 40 problems", "hints | h.jsonl, of 30 problems",
                "optimiser steps | 12"):  # fmt: skip
        assert f"| {row} |" in shown


def test_what_was_not_done_is_not_said():
    shown = card(Recipe("grpo", "m", data=DataSettings(path="p.jsonl", hints="h.jsonl"), lora=LoraSettings(rank=8)))
    assert "| tutoring | none |" in shown
    assert "library_name: peft" in shown
    assert "h.jsonl" not in shown
    assert "rollouts" not in card(Recipe("sft", "m", data=DataSettings(path="p.jsonl", solutions="s.jsonl")))
