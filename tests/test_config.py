"""Recipes: every one parses, and every mistake is named before any weight is loaded."""

import dataclasses
import inspect
import re
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from transformers import HfArgumentParser
from trl import GRPOTrainer, SFTConfig, TrlParser

from ptdpo.config import Recipe, given_once, read_recipe
from ptdpo.presets import PRESETS, preset_settings, settings_over_preset
from ptdpo.train import PTDConfig
from ptdpo.train.plan import resolved_settings
from ptdpo.train.run import launch_command
from ptdpo.train.setting_checks import check_correction
from ptdpo.train.setting_types import RENAMED, Loss, typed_settings
from ptdpo.train.settings import settings_as_written

ROOT = Path(__file__).parents[1] / "recipes"
RECIPES = sorted(
    path for path in ROOT.rglob("*.yaml") if any(line.startswith("preset:") for line in path.read_text().splitlines())
)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_parses_and_knows_its_settings(path):
    recipe = read_recipe(path)
    assert recipe.preset in PRESETS
    assert resolved_settings(recipe).output_dir


def test_there_are_recipes_for_the_laptop_and_for_the_paper():
    names = {path.stem for path in RECIPES}
    assert {"qwen3_vl_2b_ptd_grpo", "qwen3_vl_4b_ptd_grpo", "qwen3_vl_8b_ptd_grpo"} <= names
    assert any(name.startswith("easy_vqa") for name in names)


def test_the_recipes_of_the_paper_hold_table_3():
    for size, weight in (("2b", 0.05), ("4b", 0.5), ("8b", 0.05)):
        recipe = read_recipe(ROOT / f"qwen3_vl_{size}_ptd_grpo.yaml")
        train = vars(resolved_settings(recipe))
        assert recipe.model == f"Qwen/Qwen3-VL-{size.upper()}-Thinking"
        assert recipe.data.path == "PAPOGalaxy/PAPO_ViRL39K_train"
        expected = {
            "tutoring_weight": weight, "tutoring_threshold": 1.0, "tutoring_k": 100, "learning_rate": 1e-6,
            "lr_scheduler_type": "constant", "weight_decay": 0.01, "warmup_steps": 0, "bf16": True, "beta": 0.01,
            "num_train_epochs": 2, "num_generations": 8, "top_p": 0.99, "temperature": 1.0,
            "max_completion_length": 4096, "generation_batch_size": 384 * 8,
        }  # fmt: skip
        assert {name: train[name] for name in expected} == expected
        per_step = train["per_device_train_batch_size"] * train["gradient_accumulation_steps"] * recipe.processes
        assert per_step == 128 * 8
        assert recipe.data.max_prompt_tokens == 8192


def recipe_file(tmp_path, text):
    path = tmp_path / "r.yaml"
    path.write_text(text)
    return path


BASE = "preset: grpo\nmodel: m\n"


def test_overrides_reach_sections_and_training_settings(tmp_path):
    path = recipe_file(tmp_path, BASE + "data: {source: easy-vqa}\ntrain: {learning_rate: 1e-6}\n")
    recipe = read_recipe(path, ["learning_rate=2e-4", "data.limit=5", "processes=8", "train.beta=0.1", "model=n"])
    assert recipe.train == {"learning_rate": 2e-4, "beta": 0.1}
    assert (recipe.data.limit, recipe.processes, recipe.model) == (5, 8, "n")


@pytest.mark.parametrize("number", ["1e-6", "1E-6", "2.5e+3", "1e5", "-3e-2"])
def test_numbers_in_scientific_notation_are_numbers(tmp_path, number):
    recipe = read_recipe(recipe_file(tmp_path, f"{BASE}train: {{learning_rate: {number}}}\n"))
    assert recipe.train["learning_rate"] == float(number)


@pytest.mark.parametrize(
    ("text", "overrides", "message"),
    [
        ("model: m\n", [], "'preset' is missing"),
        ("preset: ptd-grop\nmodel: m\n", [], "unknown preset 'ptd-grop'; did you mean 'ptd-grpo'"),
        (BASE + "dta: {}\n", [], "unknown key 'dta'; did you mean 'data'"),
        (BASE + "data: {pth: x}\n", [], "unknown key 'pth'; did you mean 'path'"),
        (BASE + "data: {source: web}\n", [], "data.source: expected one of jsonl"),
        (BASE + "data: {bad_rows: ignore}\n", [], "refuse, drop"),
        (BASE + "data: x\n", [], "expected a section"),
        (BASE + "train: 5\n", [], "train: expected a section"),
        (BASE + "grid: [1]\n", [], "grid: expected a section"),
        (BASE + "processes: many\n", [], "r.yaml: processes: expected a whole number, found 'many'"),
        (BASE + "1: x\n", [], "unknown key 1"),
        (BASE + "data: {limit: abc}\n", [], "data.limit: expected a whole number, found 'abc'"),
        (BASE + "data: {limit: 2.5}\n", [], "data.limit: expected a whole number, found 2.5"),
        (BASE + "data: {limit: 0}\n", [], "data.limit=0: must be at least 1"),
        (BASE + "evaluate: {top_p: 3}\n", [], r"evaluate.top_p=3: must be in \(0, 1\]"),
        ("- a\n", [], "mapping"),
        ("a: [\n", [], "not valid YAML"),
        (BASE, ["learning_rate"], "expected key=value"),
        (BASE, ["model.x=1"], "'model' is not a section"),
        (BASE, ["beta=["], "not a YAML value"),
    ],
)
def test_mistakes_are_named(tmp_path, text, overrides, message):
    with pytest.raises(ValueError, match=message):
        read_recipe(recipe_file(tmp_path, text), overrides)


def test_a_missing_recipe(tmp_path):
    with pytest.raises(ValueError, match="no such recipe"):
        read_recipe(tmp_path / "absent.yaml")


def test_a_recipe_that_is_not_text_is_named(tmp_path):
    (tmp_path / "r.yaml").write_bytes(b"preset: grpo\nmodel: \xff\n")
    with pytest.raises(ValueError, match=r"r.yaml: not UTF-8 text \(invalid start byte at byte 20\)"):
        read_recipe(tmp_path / "r.yaml")


def test_an_unknown_training_setting_gets_a_suggestion(tmp_path):
    recipe = read_recipe(recipe_file(tmp_path, BASE), ["lerning_rate=1"])
    with pytest.raises(ValueError, match="'lerning_rate'; did you mean 'learning_rate'"):
        resolved_settings(recipe)


@pytest.mark.parametrize(
    ("preset", "name", "given", "value"),
    [
        ("grpo", "learning_rate", "'1e-4'", 1e-4),
        ("grpo", "max_steps", "1e2", 100),
        ("grpo", "scale_rewards", "false", False),
        ("grpo", "fsdp", "true", True),
        ("grpo", "lr_scheduler_type", "cosine", "cosine"),
        ("grpo", "max_steps", "'7'", 7),
        ("grpo", "run_name", "'7'", "7"),
        ("grpo", "optim_target_modules", "[a, b]", ["a", "b"]),
        ("grpo", "teacher_batch_size", "null", None),
        ("grpo", "reward_weights", "[1, '0.5']", [1, 0.5]),
        ("sft", "learning_rate", "'1e-4'", 1e-4),
    ],
)
def test_settings_have_the_type_of_their_annotation(tmp_path, preset, name, given, value):
    recipe = read_recipe(recipe_file(tmp_path, f"preset: {preset}\nmodel: m\ntrain:\n  {name}: {given}\n"))
    found = getattr(resolved_settings(recipe), name)
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize("preset", ["grpo", "sft"])
@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        ("learning_rate", "fast", "learning_rate: expected a number, found 'fast'"),
        ("learning_rate", True, "learning_rate: expected a number, found True"),
        ("per_device_train_batch_size", 0, "per_device_train_batch_size=0: must be at least 1"),
        ("seed", 1.5, "seed: expected a whole number, found 1.5"),
        ("bf16", "maybe", "bf16: expected true or false, found 'maybe'"),
        ("report_to", 5, r"report_to: expected text or a list \(text each\), found 5"),
        (1, 2, "unknown .*setting.* 1"),
    ],
)
def test_settings_of_another_type_or_out_of_range_are_named(preset, name, given, message):
    with pytest.raises(ValueError, match=message):
        resolved_settings(Recipe(preset, "m", train={name: given}))


def test_the_class_of_settings_checks_what_it_is_given_itself(tmp_path):
    with pytest.raises(ValueError, match="num_generations=0: must be at least 2"):
        PTDConfig(output_dir=tmp_path, num_generations=0)
    assert PTDConfig(output_dir=tmp_path, learning_rate="2e-6", use_cpu=True, bf16=False).learning_rate == 2e-6


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_every_preset_has_a_page_and_a_recipe(preset):
    page = {"opd-sampled": "opd", "opsd-v1": "opsd", "papo-printed": "papo"}.get(preset, preset)
    text = (ROOT.parent / "docs" / "presets" / f"{page}.md").read_text()
    recipe = f"recipes/demo/{preset.replace('-', '_')}.yaml"
    assert read_recipe(ROOT.parent / recipe).preset == preset
    assert recipe in text
    for setting in re.findall(r"`([a-z]+(?:_[a-z]+)+)(?::| \(|`)", text):
        known = {f.name for f in (*dataclasses.fields(PTDConfig), *dataclasses.fields(SFTConfig))}
        assert setting in known or not setting.startswith(
            ("tutoring", "perception", "masked", "overlong", "resampling")
        )


@pytest.mark.parametrize(
    ("preset", "values"),
    [
        # Those of docs/presets, with their sources.
        ("ptd-grpo", {"tutoring_weight": 0.5, "tutoring_threshold": 1.0, "tutoring_k": 100, "beta": 0.01}),
        ("ptd-dapo", {"tutoring_weight": 0.5, "epsilon": 0.2, "epsilon_high": 0.28, "beta": 0.0}),
        ("ptd-gspo", {"tutoring_weight": 0.5, "epsilon": 3e-4, "epsilon_high": 4e-4, "beta": 0.0}),
        ("grpo", {"tutoring_weight": 0.0, "epsilon": 0.2, "beta": 0.01}),
        ("dapo", {"tutoring_weight": 0.0, "epsilon_high": 0.28, "resampling_rounds": 3}),
        ("gspo", {"importance_sampling_level": "sequence", "epsilon": 3e-4, "epsilon_high": 4e-4}),
        ("sdpo", {"tutoring_ema_rate": 0.05, "tutoring_k": 100, "tutoring_ratio_clip": 2.0}),
        ("hdpo", {"tutoring_weight": 0.01, "tutoring_k": 64}),
        ("opsd", {"tutoring_clip": 0.05}),
        ("srpo", {"tutoring_gate_sharpness": 1.0, "tutoring_ema_rate": 0.05, "tutoring_k": 100}),
        ("antisd", {"tutoring_weight": -0.1, "tutoring_entropy_floor": 0.93, "tutoring_entropy_reopen": 1.07}),
        (
            "rlsd",
            {"tutoring_weight": 0.5, "tutoring_reweight_clip": 0.2, "epsilon_high": 0.28, "beta": 0.0, "delta": 3.0},
        ),
        (
            "rlcsd",
            {"tutoring_weight": 0.5, "tutoring_shift_scale": 0.02, "tutoring_shift_least": 0.02, "epsilon": 0.2}
            | {"tutoring_contrast_siblings": 4, "tutoring_ema_interval": 10, "tutoring_ema_rate": 1.0, "beta": 0.0},
        ),
        (
            "v-zero",
            {"tutoring_evidence_gate": 0.5, "tutoring_evidence_penalty": 1.0, "tutoring_evidence_most": 2.0}
            | {"tutoring_advantage_clip": 10.0, "tutoring_ratio_clip": 1.2, "rl_weight": 0.0, "beta": 0.0},
        ),
        ("scaf-grpo", {"hinted_rollouts": 1, "hinted_after": 50, "tutoring_weight": 0.0, "epsilon": 0.2, "beta": 0.0}),
        ("papo-printed", {"perception_weight": 0.02, "perception_entropy_weight": 0.05, "masked_entropy_weight": 0.05}),
        ("papo", {"perception_weight": 0.02, "perception_entropy_weight": 0.05, "masked_entropy_weight": 0.0}),
    ],
)
def test_presets_hold_the_values_of_their_papers(preset, values):
    assert {name: PRESETS[preset][name] for name in values} == values


def test_a_preset_s_former_name_says_how_it_is_called_now():
    with pytest.raises(ValueError, match="'papo-code': is called papo now, and what was papo is papo-printed"):
        preset_settings("papo-code")


@pytest.mark.parametrize(
    ("name", "value", "taken"),
    [
        ("top_k", -1, -1),
        ("save_total_limit", 0, 0),
        ("num_generations", np.int64(4), 4),
        ("learning_rate", np.float64(1e-4), 1e-4),
        ("use_cpu", np.bool_(True), True),
        ("max_grad_norm", float("inf"), float("inf")),
        ("scale_rewards", False, "none"),
        ("report_to", [], []),
    ],
)
def test_what_trls_settings_take_is_taken(tmp_path, name, value, taken):
    shared = {"output_dir": tmp_path, "use_cpu": True, "bf16": False}
    settings = PTDConfig(**{**shared, name: value})
    assert (getattr(settings, name), type(getattr(settings, name))) == (taken, type(taken))


@pytest.mark.parametrize("parser", [HfArgumentParser, TrlParser])
def test_parsers_of_command_lines_build_the_settings(tmp_path, parser):
    line = f"--output_dir {tmp_path} --use_cpu --bf16 false --tutoring_weight 0.3 --tutoring_select all --top_k -1"
    parse = parser(PTDConfig)
    read = parse.parse_args_and_config if parser is TrlParser else parse.parse_args_into_dataclasses
    (settings,) = read(line.split())
    assert (settings.tutoring_weight, settings.tutoring_select, settings.top_k) == (0.3, "all", -1)
    with pytest.raises(SystemExit):
        read([*line.split(), "--tutoring_support", "all"])


def test_the_losses_are_those_of_trl():
    """TRL finds out about another one in the middle of the first step."""
    known = re.findall(r'self\.loss_type (?:in|==) (\[.*?\]|".*?")', inspect.getsource(GRPOTrainer._compute_loss))
    assert set(get_args(Loss)) == {name for names in known for name in re.findall(r'"(\w+)"', names)}


def test_several_bad_values_are_named_at_once_by_their_paths(tmp_path):
    path = recipe_file(tmp_path, BASE + "data: {limit: 0, seed: x}\nlora: {rnk: 4}\n")
    with pytest.raises(
        ValueError, match=r"data.limit=0: must be at least 1; data.seed: expected .*; lora: unknown key"
    ):
        read_recipe(path)


@pytest.mark.parametrize(("installed", "missing"), [(0, 1), (1, 0)])
@pytest.mark.parametrize("pair", RENAMED)
def test_a_renamed_setting_may_bear_either_name(installed, missing, pair):
    """As transformers before 5.20 and after it have them: one of the two fields only."""
    value = {"use_reentrant": False} if pair[0].endswith("kwargs") else False
    one = dataclasses.make_dataclass("OneName", [(pair[installed], bool | dict | None, None)])
    for asked in pair:
        assert typed_settings(one, {asked: value}, "setting") == {pair[installed]: value}
    with pytest.raises(ValueError, match=f"{pair[missing]}=True with {pair[installed]}="):
        typed_settings(one, {pair[missing]: True, pair[installed]: value}, "setting")


@pytest.mark.parametrize("truncated", [{"top_p": 0.99}, {"top_k": 20}, {"min_p": 0.1}])
def test_ratios_of_whole_responses_are_refused_where_vllm_truncates(truncated):
    settings = settings_as_written(PTDConfig, {"use_vllm": True, **truncated})
    with pytest.raises(ValueError, match="vllm_importance_sampling_mode=sequence_mask with top_p="):
        check_correction(settings)
    token = {"vllm_importance_sampling_mode": "token_truncate"}
    for other in ({"use_vllm": True, **truncated, **token}, truncated, {"use_vllm": True}):
        check_correction(settings_as_written(PTDConfig, other))


def test_vllm_makes_room_for_the_longest_prompt_and_a_response():
    path = ROOT / "qwen3_vl_8b_ptd_grpo.yaml"
    assert resolved_settings(read_recipe(path)).vllm_max_model_length == 8192 + 4096
    assert resolved_settings(read_recipe(path, ["vllm_max_model_length=6000"])).vllm_max_model_length == 6000
    assert resolved_settings(read_recipe(path, ["use_vllm=false"])).vllm_max_model_length is None


@pytest.mark.parametrize(
    ("processes", "devices", "command"),
    [
        (2, 0, "`torchrun --nproc-per-node 2 -m ptdpo train RECIPE`"),
        (8, 8, "`torchrun --nproc-per-node 8 -m ptdpo train RECIPE`"),
        (16, 8, "--nnodes 2 --rdzv-backend c10d --rdzv-endpoint FIRST_HOST:29500 --nproc-per-node 8 -m ptdpo train"),
    ],
)
def test_the_launch_command_starts_as_many_processes(processes, devices, command):
    assert command in launch_command(processes, devices)


@pytest.mark.parametrize("preset", ["grpo", "dapo", "gspo"])
def test_a_tutoring_weight_for_a_preset_that_does_not_tutor_is_refused(preset):
    with pytest.raises(
        ValueError, match=rf"tutoring_weight=0.5 with preset {preset}.* is preset ptd-{preset}; .*weight=0$"
    ):
        settings_over_preset(preset, {"tutoring_weight": 0.5})
    assert settings_over_preset(preset, {"tutoring_weight": 0})["tutoring_weight"] == 0
    assert settings_over_preset(f"ptd-{preset}", {"tutoring_weight": 0.0})["tutoring_weight"] == 0.0
    assert settings_over_preset("papo", {"tutoring_weight": 0.5})["tutoring_weight"] == 0.5, "has no tutored form"


@pytest.mark.parametrize(
    ("first", "second"), [("max_steps=2", "max_steps=3"), ("max_steps=2", "train.max_steps=2"), ("model=a", "model=b")]
)
def test_a_setting_given_twice_is_refused(first, second):
    with pytest.raises(ValueError, match=f"^'{first}' and '{second}' give one setting twice"):
        given_once(["data.limit=1", first, second])
    assert given_once([first, "data.model=1"]) == [first, "data.model=1"]
