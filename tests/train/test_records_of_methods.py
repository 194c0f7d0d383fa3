"""What is recorded where rollouts are not simply drawn from the question: hints, the teacher's context, tools."""

import pytest

from ptdpo.runlog import read_records
from tests.train.distributed_worker import fixed_rollouts, settings_of
from tests.train.helpers import Staged, make_trainer

# The second group of four fails as a whole; of what it draws with a hint every second response is right.
PATTERN = [0, 0, 1, 0, 0, 0, 0, 0]


@pytest.mark.parametrize("scored", ["question", "hint"])
def test_rollouts_that_were_drawn_with_a_hint_say_so(tmp_path, tiny_path, processor, train_rows, scored):
    settings = {**settings_of("scaf"), "per_device_train_batch_size": 8, "hinted_scored": scored}
    trainer = make_trainer(tmp_path, tiny_path, processor, train_rows, **settings)
    fixed_rollouts(trainer, PATTERN)
    trainer.train()
    records = read_records(tmp_path)
    first, second = records.groups.values()
    assert [rollout.drawn_with for rollout in first.rollouts] == [""] * 4
    assert [rollout.drawn_with for rollout in second.rollouts] == ["hint 1", "", "", ""]
    question = records.question_of(second)
    assert (question.context, question.hint[:5]) == ("hints", "Look:"), "the levels of its hint"
    assert "Look:" not in question.question, "the question is that of all rollouts, not the hinted one's prompt"
    # The hinted rollout's tokens are those of its response.
    drawn = records.tokens[(*second.key, 0)]
    assert processor.tokenizer.decode(drawn.ids, skip_special_tokens=True) == second.rollouts[0].response


def test_rollouts_that_were_drawn_as_the_teacher_reads_say_so(tmp_path, tiny_path, processor, train_rows):
    """HDPO: the first group fails; of the four that it draws anew the second and third are right."""
    reward = Staged(own=lambda n: n == 5, drawn=lambda n: n in (1, 2))
    settings = {"preset": "hdpo", "max_steps": 1, "gradient_accumulation_steps": 2, "record_steps": 1}
    trainer = make_trainer(tmp_path, tiny_path, processor, train_rows, reward=reward, **settings)
    trainer.train()
    records = read_records(tmp_path)
    first, second = records.groups.values()
    exchanged = [rollout for rollout in first.rollouts if rollout.drawn_with]
    assert {(r.drawn_with, r.reason, r.accuracy, r.advantage) for r in exchanged} == {("answer", "tutored", 1.0, 0.0)}
    assert [r.response for r in exchanged] == [
        processor.tokenizer.decode(reward.calls[1][n], skip_special_tokens=True) for n in (1, 2)
    ]
    assert [rollout.drawn_with for rollout in second.rollouts] == [""] * 4
    for rollout in exchanged:
        line = records.tokens[(*first.key, rollout.rollout)]
        assert line.ids == reward.calls[1][1 if rollout is exchanged[0] else 2]
        assert line.divergence is not None
        assert len(line.teacher.ids) == len(line.ids)
