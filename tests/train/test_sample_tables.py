"""Recorded rollouts reach the trackers as tables, with images, and what a model wrote stays text."""

import json
import sys
from types import ModuleType, SimpleNamespace

import pytest
from PIL import Image

from ptdpo.runlog import GroupLine, QuestionLine, RolloutLine
from ptdpo.runlog.writer import RecordWriter
from ptdpo.train.trl.sample_tables import COLUMNS, EVERY, SampleTables
from tests.train.helpers import make_trainer, small_settings

HOSTILE = "<script>x</script> | a\nb"


def group(step, number, question):
    lines = [RolloutLine(n, f"{HOSTILE} {n}", 3, 0.5, float(n), "3", 0.25, "tutored") for n in range(2)]
    return GroupLine(step, number, question, "aa", "accuracy_reward", lines)


@pytest.fixture
def tables(tmp_path):
    """Two groups of step 1 and one more, recorded; and a function that logs a step."""
    records = RecordWriter(tmp_path)
    handler = SimpleNamespace(callbacks=[])
    made = SampleTables(tmp_path, handler)
    records.tell(made.see)
    (name,) = records.keep_images([Image.new("RGB", (4, 3), "red")])
    asked = [
        QuestionLine(1, one, "aa", f"question {one}", "3", "hint", "look left", [name] * (one == "p")) for one in "pq"
    ]
    records.write([*asked, group(1, 0, "p"), group(1, 1, "q")])
    records.write([group(1, 2, "p")])

    def log(report_to, step=1, main=True):
        made.on_log(
            SimpleNamespace(report_to=report_to), SimpleNamespace(is_world_process_zero=main, global_step=step), None
        )

    return SimpleNamespace(log=log, handler=handler, records=records)


class Tracker(ModuleType):
    """Stands for wandb or trackio."""

    def __init__(self, name):
        super().__init__(name)
        self.logged = []

    def Image(self, image):
        return "image", image.size

    def Table(self, **content):
        return content

    def log(self, content, **_):
        self.logged.append(content)


@pytest.fixture
def tracker(request, monkeypatch):
    made = Tracker(request.param)
    monkeypatch.setitem(sys.modules, request.param, made)
    return made


@pytest.mark.parametrize("tracker", ["wandb", "trackio"], indirect=True)
def test_the_first_groups_of_a_step_are_a_table(tables, tracker):
    tables.log([tracker.__name__])
    (content,) = tracker.logged
    table = content["rollouts"]
    rows = table["data"] if tracker.__name__ == "wandb" else table["dataframe"].values.tolist()
    assert [row[COLUMNS.index("question")] for row in rows] == ["question p"] * 2 + ["question q"] * 2
    assert [row[COLUMNS.index("image")] for row in rows] == [("image", (4, 3))] * 2 + [None] * 2
    assert [row[COLUMNS.index("response")] for row in rows[:2]] == [f"{HOSTILE} 0", f"{HOSTILE} 1"]
    assert {row[COLUMNS.index("hint")] for row in rows} == {"look left"}


@pytest.mark.parametrize("tracker", ["wandb"], indirect=True)
def test_one_table_in_so_many_steps_of_the_newest_groups_by_the_main_process(tables, tracker):
    tables.log(["wandb"], main=False)
    assert tracker.logged == []
    for step in range(1, EVERY + 2):
        tables.records.write([group(step, 0, "q")])
        tables.log(["wandb"], step)
    assert [content["train/global_step"] for content in tracker.logged] == [1, EVERY + 1]
    assert {row[0] for row in tracker.logged[1]["rollouts"]["data"]} == {EVERY + 1}
    tables.log(["none"])


def test_tensorboard_shows_text_and_images(tables, tmp_path):
    pytest.importorskip("tensorboard", reason="pip install tensorboard to test what it shows")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from torch.utils.tensorboard import SummaryWriter
    from transformers.integrations import TensorBoardCallback

    writer = SummaryWriter(str(tmp_path / "board"))
    tables.handler.callbacks.append(TensorBoardCallback(writer))
    tables.log(["tensorboard"])
    writer.close()
    found = EventAccumulator(str(tmp_path / "board"), size_guidance={"images": 0, "tensors": 0}).Reload()
    assert found.Tags()["images"] == ["rollouts/0"]
    (text,) = found.Tensors("rollouts/text_summary")
    shown = text.tensor_proto.string_val[0].decode()
    assert "<script>" not in shown
    assert "&lt;script&gt;x&lt;/script&gt; &#124; a<br>b 1" in shown
    assert len(shown.splitlines()) == 2 + 4


def test_a_run_reports_its_rollouts_to_wandb(tmp_path, monkeypatch, tiny_path, processor, train_rows):
    wandb = pytest.importorskip("wandb", reason="pip install wandb to test what it keeps")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    monkeypatch.setenv("WANDB_DATA_DIR", str(tmp_path / "staging"))
    settings = {**small_settings(max_steps=1), "report_to": "wandb"}
    trainer = make_trainer(tmp_path / "run", tiny_path, processor, train_rows, **settings)
    trainer.train()
    wandb.finish()
    # What wandb's page shows is an artifact, made ready for the upload.
    ready = [path.read_bytes() for path in (tmp_path / "staging").rglob("*") if path.is_file()]
    table, *_ = [json.loads(data) for data in ready if data.startswith(b"{") and b'"image-file"' in data]
    assert table["columns"] == list(COLUMNS)
    assert {row[COLUMNS.index("image")]["_type"] for row in table["data"]} == {"image-file"}
    assert any(data.startswith(b"\x89PNG") for data in ready)
