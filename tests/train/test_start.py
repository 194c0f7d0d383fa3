"""A run that starts from an adapter starts from the model that it makes of its base."""

import pytest
import torch

from ptdpo.config import DataSettings, LoraSettings, Recipe
from ptdpo.data.files import write_problems, write_solutions
from ptdpo.models.adapters import read_adapter
from ptdpo.models.loading import load_model
from ptdpo.train import PTDConfig, PTDTrainer
from ptdpo.train.run import train_recipe
from ptdpo.train.start import whole_start
from tests.models.test_adapters import make_adapter


@pytest.fixture
def adapter(tiny_path, tmp_path):
    make_adapter(tiny_path, tmp_path / "lora")
    return tmp_path / "lora"


def test_an_adapter_is_merged_once_below_the_run_and_anew_when_it_changes(tiny_path, adapter, tmp_path):
    assert whole_start(tiny_path, tmp_path / "run", use_cpu=True) == tiny_path
    start = whole_start(str(adapter), tmp_path / "run", use_cpu=True)
    wanted, found = (load_model(str(path)).state_dict() for path in (adapter, start))
    assert all(torch.equal(value, found[name]) for name, value in wanted.items())
    (time,) = {path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*.safetensors")}
    assert whole_start(str(adapter), tmp_path / "run", use_cpu=True) == start
    assert {path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*.safetensors")} == {time}
    make_adapter(tiny_path, adapter, seed=1)
    assert whole_start(str(adapter), tmp_path / "run", use_cpu=True) != start


def test_lora_on_an_adapter_names_the_model_that_it_adapts(adapter, tmp_path, scenes):
    """At learning rate 0 the result is the start: the new adapter's base must be the merged model."""
    write_problems(tmp_path / "p.jsonl", [s.problem for s in scenes[:4]])
    write_solutions(tmp_path / "s.jsonl", [s.solution for s in scenes[:4]])
    data = DataSettings(path=str(tmp_path / "p.jsonl"), solutions=str(tmp_path / "s.jsonl"), instruction="")
    train = {
        "output_dir": str(tmp_path / "next"), "max_steps": 1, "per_device_train_batch_size": 2, "learning_rate": 0.0,
        "save_strategy": "no", "report_to": "none", "use_cpu": True, "bf16": False, "disable_tqdm": True,
        "activation_checkpointing": False,
    }  # fmt: skip
    train_recipe(Recipe("sft", str(adapter), data, train, LoraSettings(rank=2)))
    (start,) = (tmp_path / "next").glob("start-*")
    assert read_adapter(tmp_path / "next").base == str(start)
    wanted, found = (load_model(str(path)).state_dict() for path in (adapter, tmp_path / "next"))
    assert all(torch.equal(value, found[name]) for name, value in wanted.items())


def test_the_trainer_itself_takes_no_adapter(adapter, tmp_path, train_rows):
    args = PTDConfig(output_dir=str(tmp_path / "out"), report_to="none", use_cpu=True, bf16=False)
    with pytest.raises(ValueError, match=r"model=.*: an adapter, .* ptdpo merge"):
        PTDTrainer(str(adapter), None, args, train_dataset=train_rows)
