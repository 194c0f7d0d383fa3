"""Feedback: a teacher reads what was said of each rollout, a column of the data or a function's words."""

from dataclasses import replace

import pytest

from ptdpo.data.dataset import rl_dataset
from ptdpo.train.trl.feedback import said_of_rollouts, with_columns
from tests.train.helpers import always_wrong, make_trainer

ROWS = [{"id": "1", "prompt": "how many?"}, {"id": "1", "prompt": "how many?"}]


def shown_to_the_teacher(trainer):
    """Train a step, and return what each lesson showed and taught."""
    seen, read = [], trainer.teacher.read

    def watched(lessons, **kwargs):
        seen.extend((one.messages[-1]["content"], tuple(one.response_ids.tolist())) for one in lessons)
        return read(lessons, **kwargs)

    trainer.teacher.read = watched
    trainer.train()
    return seen


def start(tmp_path, tiny_path, processor, rows, **kwargs):
    settings = {"preset": "ptd-grpo", "reward": always_wrong, "tutoring_context": "feedback", "max_steps": 1}
    return make_trainer(tmp_path, tiny_path, processor, rows, **{**settings, **kwargs})


def test_a_function_says_something_of_each_rollout(tmp_path, tiny_path, processor, train_rows):
    asked = []

    def said(completion_ids, answer, prompts, **columns):
        asked.append(len(completion_ids))
        assert len(answer) == len(prompts) == len(completion_ids)
        return [f"token {ids[0]} is wrong" if n else None for n, ids in enumerate(completion_ids)]

    seen = shown_to_the_teacher(start(tmp_path, tiny_path, processor, train_rows, feedback=said))
    assert len(seen) == sum(asked) - 1, "of the first rollout nothing was said"
    assert all(f"said of a failed answer to the question:\ntoken {ids[0]} is wrong\n" in text for text, ids in seen)


def test_a_column_is_what_the_teacher_reads(tmp_path, tiny_path, processor, scenes):
    problems = [replace(s.problem, feedback="off by one" if n % 2 else None) for n, s in enumerate(scenes[:4])]
    rows = rl_dataset(problems, {}, instruction="")
    seen = shown_to_the_teacher(start(tmp_path, tiny_path, processor, rows))
    assert len(seen) > 0
    assert all("\noff by one\n" in text for text, _ in seen)


def test_feedback_stands_in_the_place_of_the_column():
    said = said_of_rollouts(lambda **_: ["no", None], ROWS, [], [], [])
    rows = with_columns([{**row, "feedback": "old"} for row in ROWS], said)
    assert [row["feedback"] for row in rows] == ["no", None]
    assert with_columns(ROWS, said_of_rollouts(None, ROWS, [], [], [])) == ROWS


@pytest.mark.parametrize(
    ("returned", "message"),
    [(["no"], "returned 1 values for 2 rollouts: it must return a text"), (["no", 0.0], "returned 0.0: it must")],
)
def test_what_is_no_text_for_each_rollout_is_refused(returned, message):
    with pytest.raises(ValueError, match=message):
        said_of_rollouts(lambda **_: returned, ROWS, [], [], [])


def test_feedback_that_nobody_would_read_is_refused(tmp_path, tiny_path, processor, train_rows):
    with pytest.raises(ValueError, match="tutoring_context=hint: nobody would read it"):
        start(tmp_path, tiny_path, processor, train_rows, tutoring_context="hint", feedback=lambda **_: [])


def test_without_column_or_function_there_is_nothing_to_read(tmp_path, tiny_path, processor, train_rows):
    with pytest.raises(ValueError, match="train_dataset has no column 'feedback'"):
        start(tmp_path, tiny_path, processor, train_rows.remove_columns(["feedback"]))
