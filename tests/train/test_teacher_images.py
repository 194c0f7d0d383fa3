"""A teacher that sees other images than the student: adapters, resuming, records, and what is refused."""

import pytest
import torch
from peft import LoraConfig

from ptdpo.data.dataset import rl_dataset
from ptdpo.data.mosaic import with_views
from ptdpo.runlog import read_records
from ptdpo.train import PTDConfig
from tests.train.helpers import Alternating, always_wrong, make_trainer, metrics, parameters

SEES = {"tutoring_images": "teacher", "shuffle_dataset": False, "reward": always_wrong}


@pytest.fixture(scope="module")
def rows(scenes, tmp_path_factory):
    """All but the third problem have views."""
    folder = tmp_path_factory.mktemp("views")
    problems = [s.problem if n == 2 else with_views(s, folder) for n, s in enumerate(scenes)]
    return rl_dataset(problems, {s.problem.id: s.hint for s in scenes}, instruction="")


@pytest.fixture
def train(tmp_path, tiny_path, processor, rows):
    def start(name="run", **settings):
        trainer = make_trainer(tmp_path / name, tiny_path, processor, settings.pop("rows", rows), **settings)
        trainer.train()
        return trainer

    return start


def test_with_an_adapter_the_start_model_sees_the_same(train):
    lora = LoraConfig(r=4, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    full, adapter = train("full", **SEES), train("lora", **SEES, peft_config=lora)
    other = train("question", **{**SEES, "tutoring_images": "question"})
    apart, same, question = (metrics(one)[0]["divergence"] for one in (full, adapter, other))
    assert same == pytest.approx(apart, rel=1e-4)
    assert abs(question - apart) > 1e-3 * apart


@pytest.mark.parametrize("settings", [{"preset": "v-zero"}, {"preset": "ptd-grpo", "tutoring_images": "both"}])
def test_a_run_resumes_to_the_last_bit(tmp_path, tiny_path, processor, rows, settings):
    shared = {"reward": Alternating(5, 4), "max_steps": 4, "save_strategy": "steps", "save_steps": 2, **settings}
    whole, again = (make_trainer(tmp_path / name, tiny_path, processor, rows, **shared) for name in ("whole", "again"))
    whole.train()
    torch.manual_seed(123)
    again.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-2"))
    mine, reference = parameters(again), parameters(whole)
    assert all(torch.equal(mine[name], reference[name]) for name in reference)
    assert metrics(again)[-1]["divergence"] == metrics(whole)[-1]["divergence"]


def test_rollouts_drawn_under_the_teachers_images(train):
    """HDPO draws under what the teacher sees; rewards see the row."""
    drawn = []

    def accuracy_reward(completions, images, **_):
        drawn.append({image.size for own in images for image in own})
        return [float(len(drawn) % 2 == 0)] * len(completions)

    trainer = train(preset="hdpo", reward=accuracy_reward, tutoring_images="both", shuffle_dataset=False)
    assert metrics(trainer)[0]["tutored/exchanged"] == 1.0
    assert drawn == [{(48, 48)}] * 2


def test_rows_without_them_are_not_tutored_and_records_show_what_was_seen(tmp_path, train):
    train(**SEES, max_steps=2)
    records = read_records(tmp_path / "run")
    reasons = [{rollout.reason for rollout in group.rollouts} for group in records.groups.values()]
    assert sorted(map(sorted, reasons)) == [["no context"], *[["tutored"]] * 3]
    shown = [question.teacher_images for question in records.questions.values()]
    assert sorted(map(len, shown)) == [0, 1, 1, 1]
    seen = {name for names in shown for name in names}
    own = {name for question in records.questions.values() for name in question.images}
    assert all(records.image(name) is not None for name in seen)
    assert not seen & own


def test_evidence_is_logged(train):
    trainer = train(preset="v-zero", shuffle_dataset=False)
    row = metrics(trainer)[0]
    assert row["tutored/rollouts"] == 8
    assert row["tutored/evidence"] != 0
    assert 0 <= row["tutored/without_evidence"] < 1


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"tutoring_images": "teacher"}, "tutoring_images=teacher: train_dataset has no column 'teacher_images'"),
        (
            {"preset": "v-zero", "tutoring_images": "question", "tutoring_context": "hint"},
            "tutoring_contrast=images: train_dataset has no column 'contrast_images'",
        ),
    ],
)
def test_data_without_the_column_are_refused(train, train_rows, settings, reason):
    with pytest.raises(ValueError, match=reason):
        train(rows=train_rows, **settings)


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"tutoring_images": "crop"}, "tutoring_images: expected one of question, teacher, both, found 'crop'"),
        ({"tutoring_evidence_gate": 0.5}, "tutoring_evidence_gate=0.5: evidence for what, against what"),
        ({"tutoring_evidence_most": 3.0}, "set tutoring_evidence_gate too"),
        ({"tutoring_contrast": "images"}, "with tutoring_use=loss the teacher is compared with the policy"),
        (
            {"tutoring_contrast": "images", "tutoring_evidence_gate": 0.5, "tutoring_use": "reweight"},
            "tutoring_use=reweight has none",
        ),
        ({"tutoring_advantage_clip": 5.0}, "tutoring_advantage_clip shape the advantage of sampled tokens"),
        ({"tutoring_context": "question", "rl_weight": 0.0}, "or tutoring_images to teacher or both"),
    ],
)
def test_settings_that_make_no_sense_are_refused(tmp_path, settings, reason):
    with pytest.raises(ValueError, match=reason):
        PTDConfig.from_preset("ptd-grpo", output_dir=str(tmp_path), use_cpu=True, bf16=False, **settings)


def test_the_question_alone_teaches_with_other_images(tmp_path):
    settings = {"tutoring_context": "question", "tutoring_images": "both", "rl_weight": 0.0}
    assert PTDConfig.from_preset("ptd-grpo", output_dir=str(tmp_path), use_cpu=True, bf16=False, **settings).tutors
