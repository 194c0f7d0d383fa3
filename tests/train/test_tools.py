"""Tools, environments and rollout functions: the teacher reads all turns, and only what the policy wrote is tutored."""

import datasets
import pytest
import torch

from ptdpo.data.rendering import render
from ptdpo.models import load_model
from ptdpo.runlog import read_records
from ptdpo.train import PTDConfig, PTDTrainer
from ptdpo.tutor.context import hinted_prompt
from tests import tiny_families
from tests.train.helpers import SGD, Alternating, metrics, small_settings
from tests.train.test_text import ROWS

# What each rollout holds: a call, what the tool answered, the answer.
OWN, OBSERVED, REST = [70, 71], [80, 81, 82], [72, 73, 74]


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tiny_families.save_text_model(tmp_path_factory.mktemp("llama"), "llama")


def turns(prompts, trainer, observed=OBSERVED):
    tokenizer = trainer.processing_class
    ids = [tokenizer(render(tokenizer, prompt), add_special_tokens=False)["input_ids"] for prompt in prompts]
    responses = [[*OWN, *observed, *(REST if n % 2 else REST[:2])] for n in range(len(prompts))]
    masks = [[1] * len(OWN) + [0] * len(observed) + [1] * (len(one) - len(OWN + observed)) for one in responses]
    logps = [[0.0] * len(one) for one in responses]
    return {"prompt_ids": ids, "completion_ids": responses, "logprobs": logps, "env_mask": masks}


@pytest.fixture
def run(tmp_path, path):
    def start(name="run", rollout_func=turns, **settings):
        settings = {"tutoring_k": 10, "max_steps": 1, **small_settings(), **SGD, **settings}
        args = PTDConfig.from_preset("ptd-grpo", output_dir=str(tmp_path / name), **settings)
        rows = datasets.Dataset.from_list(ROWS)
        trainer = PTDTrainer(path, Alternating(3), args, train_dataset=rows, rollout_func=rollout_func)
        trainer.train()
        return trainer

    return start


def kept(trainer):
    """The buffered rollouts that were tutored: ids, what the policy wrote, the teacher's record."""
    for columns in trainer._buffered_inputs:
        written = columns["completion_mask"].bool() & columns["tool_mask"].bool()
        for row, record in enumerate(columns["rollout_records"]):
            if record.reading.teacher is not None:
                ids = columns["completion_ids"][row][columns["completion_mask"][row].bool()]
                own = written[row][columns["completion_mask"][row].bool()]
                yield columns["prompt_ids"][row][columns["prompt_mask"][row].bool()], ids, own, record.reading.teacher


def test_only_what_the_policy_wrote_is_tutored(run):
    trainer = run()
    rows = list(kept(trainer))
    assert len(rows) == 5
    assert all(len(record) == int(own.sum()) < len(ids) for _, ids, own, record in rows)
    assert metrics(trainer)[0]["tutored/tokens"] == sum(int(own.sum()) for _, _, own, _ in rows)


@pytest.mark.parametrize("share", [False, True])
def test_the_teacher_reads_the_hinted_prompt_and_all_turns_exactly(run, path, share):
    """Against the whole model on hinted prompt, calls and observations, one rollout at a time."""
    trainer, model = run(share_prefix=share), load_model(path).eval()
    tokenizer = trainer.processing_class
    hinted = {row["prompt"][0]["content"]: row for row in ROWS}
    for prompt, ids, own, record in kept(trainer):
        (row,) = [row for text, row in hinted.items() if text in tokenizer.decode(prompt)]
        shown = tokenizer(render(tokenizer, hinted_prompt(row)), add_special_tokens=False)["input_ids"]
        with torch.no_grad():
            logits = model(torch.tensor([[*shown, *ids.tolist()]])).logits[0, len(shown) - 1 : -1]
        expected = logits.log_softmax(-1).gather(-1, ids[:, None])[own]
        got = record.with_head(*trainer.teacher.head()).log_probs_at(ids[own][:, None])
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)


def test_records_hold_what_the_policy_wrote_token_by_token(run):
    """A response is recorded with what the tool answered; its tokens are those that are trained on."""
    trainer = run(record_steps=1)
    records = read_records(trainer.args.output_dir)
    assert records.broken == 0
    rollouts = {(*key, one.rollout): one for key, group in records.groups.items() for one in group.rollouts}
    assert rollouts.keys() == records.tokens.keys()
    for key, line in records.tokens.items():
        assert line.ids in ([*OWN, *REST], [*OWN, *REST[:2]])
        assert rollouts[key].tokens == len(line.ids)
        whole = [*line.ids[: len(OWN)], *OBSERVED, *line.ids[len(OWN) :]]
        assert rollouts[key].response == trainer.processing_class.decode(whole, skip_special_tokens=True)
        assert (line.teacher is not None) == rollouts[key].tutored
        assert all(len(each.ids) == len(line.ids) for each in (line.student, line.teacher) if each is not None)
    assert sum(one.tutored for one in rollouts.values()) == 5


def test_observations_reach_the_teacher(run):
    def other(prompts, trainer):
        return turns(prompts, trainer, observed=[83, 84, 85])

    first, second = (metrics(run(name, way))[0]["divergence"] for name, way in (("one", turns), ("two", other)))
    assert abs(first - second) > 1e-7


def test_shared_and_plain_layouts_take_the_same_step(run):
    ends = [
        torch.cat([p.detach().flatten() for p in run(f"{share}", share_prefix=share).model.parameters()])
        for share in (False, True)
    ]
    torch.testing.assert_close(*ends, rtol=0, atol=1e-4)


def test_parts_by_tokens_change_nothing(run):
    ends = [
        torch.cat([p.detach().flatten() for p in run(f"{most}", micro_batch_tokens=most).model.parameters()])
        for most in (None, 60)
    ]
    torch.testing.assert_close(*ends, rtol=0, atol=1e-4)


def test_a_rollout_function_that_writes_another_prompt_is_refused(run):
    def shortened(prompts, trainer):
        made = turns(prompts, trainer)
        return {**made, "prompt_ids": [ids[1:] for ids in made["prompt_ids"]]}

    with pytest.raises(ValueError, match="row 0: rollout_func wrote the prompt as"):
        run(rollout_func=shortened)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"perception_weight": 0.1}, "rollout_func: not supported with .* set perception_weight"),
        ({"resampling_rounds": 1}, "rollout_func: not supported with .* set resampling_rounds to 0"),
    ],
)
def test_what_would_sample_again_is_refused(run, settings, message):
    with pytest.raises(ValueError, match=message):
        run(**settings)
