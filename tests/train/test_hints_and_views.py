"""Adaptive hints and images of the teacher: together, and with resampling, records and resuming."""

import pytest
import torch
from PIL import Image

from ptdpo.data.load import LoadedData
from ptdpo.data.prompts import conversation
from ptdpo.data.teacher_images import VIEWS
from ptdpo.records import Problem
from ptdpo.train.method import Method
from ptdpo.train.method_settings import MethodSettings, RecordSettings, ResamplingSettings, TutoringSettings
from ptdpo.train.plan import check_contexts
from ptdpo.train.settings import PTDConfig
from ptdpo.train.trl.method_settings import method_settings
from ptdpo.train.trl.method_state import FloorState
from ptdpo.tutor.head import Divergence
from tests.train.fake_engine import FakeEngine, FakeTeacher
from tests.train.helpers import Alternating, make_trainer

IDS, MASK = torch.tensor([[1, 2], [3, 4]]), torch.ones(2, 2, dtype=torch.bool)
ROW = {"id": "a", "prompt": conversation("q"), "hints": ["vague", "clear", "explicit"]}


class Contrasting(FakeTeacher):
    """Reads contrasts too, and remembers which."""

    def log_probs(self, lessons, *, calls, filler):
        self.contrasted = lessons
        return [torch.zeros(one.tokens) for one in lessons]


class Keeping(FakeEngine):
    """Pictures are their names."""

    def keep_images(self, images):
        return tuple(map(str, images))


def prepared(row, **settings):
    """Prepare a group that fails as a whole; of what is drawn with a hint all is right where it is the clear one."""
    right = lambda own, prompt: [int("clear" in prompt[-1]["content"])]  # noqa: E731
    engine = Keeping([], right, lambda own, ids: float(ids == [1]))
    teacher = Contrasting(torch.randn(11, 5), torch.randn(11, 5), 4)
    tutoring = TutoringSettings(context="hints", divergence=Divergence(k=4), **settings)
    method = Method(engine, MethodSettings(tutoring=tutoring, records=RecordSettings(tokens=0)), teacher)
    method.prepare(engine.batch([row, row], IDS, MASK, torch.zeros(2)))
    return engine, teacher


def test_images_are_contrasted_under_the_same_hint():
    row = {**ROW, "images": ["own"], "teacher_images": ["crop"], "contrast_images": ["other"]}
    _, teacher = prepared(row, images="teacher", contrast="images", use="reweight")
    chosen = [conversation("q\n\nclear")] * 2
    assert [(one.messages, one.images) for one in teacher.shown] == [(chosen[0], ["crop"])] * 2
    assert [(one.messages, one.images) for one in teacher.contrasted] == [(chosen[0], ["other"])] * 2


def test_records_number_hints_as_levels_do():
    engine, _ = prepared({**ROW, "hints": [None, "vague", " ", "clear <image>"]})
    question, group = engine.lines
    assert question.hint == "1: vague\n2: clear image"
    assert {rollout.hint_level for rollout in group.rollouts} == {2}


def test_groups_that_fail_stay_only_where_the_teacher_sees_what_it_is_to_see():
    picture = [Image.new("RGB", (8, 8))]
    views = dict.fromkeys(("images", *VIEWS), picture)
    data = [{"id": "0", "prompt": conversation("0"), **views}, {"id": "1", "prompt": conversation("1")}]
    engine = FakeEngine(data, lambda row, prompt: [0], lambda row, ids: 0.0)
    settings = ResamplingSettings(rounds=20, kept_context="question", kept_columns=VIEWS)
    chosen = Method(engine, MethodSettings(resampling=settings)).before_grading([data[1]] * 2)
    assert [row["id"] for row in chosen.rows] == ["0", "0"]


def test_resampling_knows_the_columns_of_the_teacher(tmp_path):
    base = {"output_dir": str(tmp_path), "use_cpu": True, "bf16": False, "resampling_rounds": 1}
    asked = {
        preset: method_settings(PTDConfig.from_preset(preset, **base)) for preset in ("v-zero", "ptd-grpo", "grpo")
    }
    assert {preset: one.resampling.kept_columns for preset, one in asked.items()} == {
        "v-zero": VIEWS,
        "ptd-grpo": (),
        "grpo": (),
    }


@pytest.mark.parametrize(
    ("rows", "preset"),
    [
        ([{"teacher_images": "x"}, {"contrast_images": "x"}], "v-zero"),
        ([{"teacher_images": "x"}, {"hints": "x"}], "ptd-grpo"),
    ],
)
def test_data_in_which_no_problem_has_all_that_the_teacher_reads_are_refused(tmp_path, rows, preset):
    base = {"output_dir": str(tmp_path), "use_cpu": True, "bf16": False}
    context = {} if preset == "v-zero" else {"tutoring_images": "both", "tutoring_context": "hints"}
    settings = PTDConfig.from_preset(preset, **base, **context)
    problems = [Problem(str(n), ("x",), "how many?", "3", **row) for n, row in enumerate(rows)]
    with pytest.raises(ValueError, match="no problem has all that the teacher reads: teacher_images"):
        check_contexts(settings, LoadedData(problems, {}, {}, ""))
    whole = Problem("whole", ("x",), "how many?", "3", **{**rows[0], **rows[1]})
    check_contexts(settings, LoadedData([*problems, whole], {}, {}, ""))


def test_what_the_method_knows_resumes_with_an_engine_that_loads_weights_by_itself(
    tmp_path, tiny_path, processor, train_rows, monkeypatch
):
    """As DeepSpeed does: transformers then never asks the trainer to load them."""
    settings = {"preset": "antisd", "tutoring_entropy_warmup": 2, "save_strategy": "steps", "save_steps": 1}

    def trainer(steps):
        made = {"reward": Alternating(2), "max_steps": steps, **settings}
        return make_trainer(tmp_path, tiny_path, processor, train_rows, **made)

    trainer(1).train()
    resumed = trainer(2)
    monkeypatch.setattr(resumed, "_load_from_checkpoint", lambda *_, **__: None)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-1"))
    (state,) = (one for one in resumed.callback_handler.callbacks if isinstance(one, FloorState))
    assert len(state.floor.first) == 2, "that of the first run's step too"
