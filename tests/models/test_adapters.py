"""An adapter's folder is read as the model that it makes of its base."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file

from ptdpo.cli import main
from ptdpo.evaluate.fingerprint import model_fingerprint
from ptdpo.evaluate.local import LocalEngine
from ptdpo.evaluate.prompts import chat_messages, prompt_parts
from ptdpo.models.adapters import read_adapter, refuse_adapter
from ptdpo.models.loading import check_model, load_model, load_processor, model_config
from ptdpo.models.merging import save_merged
from ptdpo.models.sampling import generate_batch

LAYER = "model.language_model.layers.0.self_attn.q_proj"
RANK, ALPHA = 2, 6


def make_adapter(base, folder, seed=0):
    """Save an adapter that changes what the base answers; it has no processor."""
    model = get_peft_model(
        load_model(str(base)), LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=["q_proj", "o_proj"])
    )
    torch.manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.normal_(std=0.5)
    model.save_pretrained(folder, save_embedding_layers=False)
    return model


@pytest.fixture
def adapter(tiny_path, tmp_path):
    make_adapter(tiny_path, tmp_path / "lora")
    return tmp_path / "lora"


def test_merged_is_the_formula_and_attached_answers_the_same(tiny_path, adapter, scenes):
    base, model = load_model(tiny_path), load_model(str(adapter))
    factors = load_file(adapter / "adapter_model.safetensors")
    a, b = (factors[f"base_model.model.{LAYER}.lora_{which}.weight"] for which in "AB")
    weight = base.get_submodule(LAYER).weight
    torch.testing.assert_close(model.get_submodule(LAYER).weight, weight + b @ a * ALPHA / RANK)
    assert not torch.equal(model.get_submodule(LAYER).weight, weight)
    processor = load_processor(str(adapter))
    prompts = [chat_messages(prompt_parts(scene.problem, "")) for scene in scenes[:3]]
    answers = [
        generate_batch(one, processor, prompts, max_new_tokens=8, greedy=True)
        for one in (model, load_model(str(adapter), attach=True), base)
    ]
    assert answers[0] == answers[1] != answers[2]


def test_merge_leaves_a_model_of_its_own(adapter, tmp_path, monkeypatch, capsys):
    out = tmp_path / "merged"
    monkeypatch.setattr("sys.argv", ["ptdpo", "merge", str(adapter), "--out", str(out)])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 0
    shutil.rmtree(adapter)
    check_model(str(out))
    assert read_adapter(out) is None
    assert load_processor(str(out)).tokenizer.padding_side == "left"
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    assert "there is something in it" in capsys.readouterr().err
    with pytest.raises(ValueError, match="no adapter there"):
        save_merged(out, tmp_path / "again")


def test_an_adapter_on_an_adapter_and_folders_that_move_together(tiny_path, adapter, tmp_path):
    second = make_adapter(adapter, tmp_path / "second", seed=1)
    assert read_adapter(tmp_path / "second").base == str(adapter), "not the base's base"
    wanted = second.merge_and_unload().state_dict()
    # All in one folder, elsewhere.
    moved = tmp_path / "moved"
    shutil.move(adapter, moved / "lora")
    shutil.move(tmp_path / "second", moved / "second")
    found = load_model(str(moved / "second")).state_dict()
    assert all(torch.equal(value, found[name]) for name, value in wanted.items())
    assert model_config(str(moved / "second")).model_type == "qwen3_vl"


def test_the_revision_is_that_of_the_adapter_and_its_base(tiny_path, adapter, tmp_path):
    shutil.copytree(tiny_path, tmp_path / "base")
    make_adapter(tmp_path / "base", tmp_path / "on_copy")
    before = model_fingerprint(str(tmp_path / "on_copy"))
    assert LocalEngine(str(tmp_path / "on_copy")).describe().revision == before
    config = tmp_path / "base" / "config.json"
    config.write_text(config.read_text() + " ")
    after = model_fingerprint(str(tmp_path / "on_copy"))
    assert before != after, "the base counts"
    make_adapter(tmp_path / "base", tmp_path / "on_copy", seed=1)
    assert model_fingerprint(str(tmp_path / "on_copy")) != after, "the adapter counts"


def spoil(folder: Path, fault: str):
    config = json.loads((folder / "adapter_config.json").read_text())
    if fault == "no base":
        config["base_model_name_or_path"] = None
    if fault == "base gone":
        config["base_model_name_or_path"] = "gone/for/ever"
    (folder / "adapter_config.json").write_text("[" if fault == "torn" else json.dumps(config))
    if fault == "no weights":
        (folder / "adapter_model.safetensors").unlink()
    if fault == "both":
        (folder / "model.safetensors").write_bytes(b"")
    if fault in ("checkpoints", "empty"):
        for file in folder.iterdir():
            file.unlink()
    if fault == "checkpoints":
        for step in (9, 10):
            (folder / f"checkpoint-{step}").mkdir()
    if fault == "config only":
        spoil(folder, "empty")
        (folder / "config.json").write_text("{}")


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("no base", "names no base"),
        ("base gone", "is an adapter, and its base='gone/for/ever': neither a folder here nor a hub id"),
        ("torn", "not the configuration of an adapter"),
        ("no weights", "no adapter_model.safetensors: its saving was cut off"),
        ("both", "an adapter and the weights of a whole model"),
        ("empty", "a folder without a model's configuration"),
        ("config only", "a folder without a model's weights"),
        ("checkpoints", r"it holds checkpoints: .*checkpoint-10 is the newest"),
    ],
)
def test_what_is_no_model_is_refused_before_work_begins(adapter, fault, message):
    spoil(adapter, fault)
    with pytest.raises(ValueError, match=message):
        check_model(str(adapter))
    with pytest.raises(ValueError, match=message):
        LocalEngine(str(adapter)).describe()


@pytest.mark.parametrize("change", ["wider", "more layers", "fewer layers"])
def test_an_adapter_of_another_model_says_so(adapter, change):
    """Weights without a place in the model, or places without weights, would pass silently."""
    file = adapter / "adapter_model.safetensors"
    weights = load_file(file)
    key = next(name for name in weights if "layers.1.self_attn.q_proj.lora_A" in name)
    if change == "wider":
        weights[key] = torch.zeros(RANK, weights[key].size(1) + 8)
    if change == "more layers":
        weights[key.replace("layers.1", "layers.7")] = weights[key].clone()
    if change == "fewer layers":
        del weights[key]
    save_file(weights, file)
    with pytest.raises(ValueError, match="lora: the adapter does not fit its base"):
        load_model(str(adapter))


def test_where_a_whole_model_is_needed_the_way_to_one_is_said(adapter, tiny_path):
    refuse_adapter(tiny_path, "model")
    with pytest.raises(ValueError, match=r"tutoring_teacher=.*: ptdpo merge .*lora --out FOLDER makes one"):
        refuse_adapter(str(adapter), "tutoring_teacher")
