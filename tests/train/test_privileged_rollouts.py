"""HDPO: rollouts drawn under the teacher's context, kept when right."""

import pytest
import torch

from ptdpo.models import load_model
from ptdpo.train import PTDConfig
from ptdpo.train.metrics import read_metrics
from ptdpo.train.rollouts.privileged import draw_privileged
from ptdpo.train.trl.batches import replace_responses
from ptdpo.tutor.context import Shown
from tests.one_process import OneProcess
from tests.train.fake_engine import FakeEngine
from tests.train.helpers import Staged, largest_difference, make_trainer, parameters

SGD = {"optim": "sgd", "learning_rate": 0.5, "max_grad_norm": 0.0, "weight_decay": 0.0}


@pytest.fixture
def run(tmp_path, tiny_path, processor, train_rows):
    def start(name="run", **settings):
        settings = {"preset": "hdpo", "gradient_accumulation_steps": 2, "tutoring_weight": 5.0, **SGD, **settings}
        trainer = make_trainer(tmp_path / name, tiny_path, processor, train_rows, **settings)
        trainer.train()
        return trainer

    return start


def metrics(trainer):
    return read_metrics(f"{trainer.args.output_dir}/metrics.jsonl")


def moved(trainer, tiny_path):
    return largest_difference(parameters(trainer), dict(load_model(tiny_path).named_parameters()))


def test_right_rollouts_take_the_place_of_failed_ones(run, tiny_path):
    """The first group fails, the second has a right one; of the four drawn anew two are right."""
    reward = Staged(own=lambda n: n == 5, drawn=lambda n: n in (1, 2))
    trainer = run(reward=reward, max_steps=1, rl_weight=0.0)
    row = metrics(trainer)[0]
    assert row["tutored/rollouts"] == 2
    assert row["tutored/exchanged"] == pytest.approx(2 / 8)
    drawn = reward.calls[1]
    assert len(drawn) == 4, "only the group that failed is drawn anew"
    trained = [
        ids[mask.bool()].tolist()
        for batch in trainer._buffered_inputs
        for ids, mask in zip(batch["completion_ids"], batch["completion_mask"], strict=True)
    ]
    assert sum(ids in (drawn[1], drawn[2]) for ids in trained) >= 2
    assert moved(trainer, tiny_path) > 1e-5, "without a policy gradient, what moves is the tutoring term"


def test_they_are_drawn_under_what_the_teacher_reads():
    told, asked, graded = Shown([{"role": "user", "content": "q, told"}], ["part"]), [], []
    rows = [{"id": str(n // 2), "prompt": [{"role": "user", "content": "q"}], "images": ["whole"]} for n in range(4)]
    engine = FakeEngine(
        rows,
        lambda row, prompt: asked.append((prompt, row["images"])) or [5, 6],
        lambda row, ids: graded.append(row["images"]) or 1.0,
    )
    batch = engine.batch(rows, torch.ones(4, 3, dtype=torch.long), torch.ones(4, 3, dtype=torch.bool), torch.zeros(4))
    chosen = torch.tensor([False, False, True, True])
    assert draw_privileged(engine, batch, [None, None, told, told], chosen) == {2: [5, 6], 3: [5, 6]}
    assert asked == [(told.prompt, ["part"])] * 2
    assert graded == [["whole"]] * 2, "rewards see the row"


def test_rollouts_that_the_policy_did_not_draw_have_no_advantage(run):
    """The first group fails; its own rollouts differ in a second reward, and two of its four are exchanged."""
    reward = Staged(own=lambda n: n == 5, drawn=lambda n: n in (1, 2))
    trainer = run(reward=[reward, numbered], max_steps=1, reward_weights=[1.0, 1.0])
    drawn = [ids for n, ids in enumerate(reward.calls[1]) if n in (1, 2)]
    rows = [
        (ids[mask.bool()].tolist() in drawn, advantage.item())
        for batch in trainer._buffered_inputs
        for ids, mask, advantage in zip(
            batch["completion_ids"], batch["completion_mask"], batch["advantages"], strict=True
        )
    ]
    assert [advantage for exchanged, advantage in rows if exchanged] == [0.0, 0.0]
    assert all(advantage != 0 for exchanged, advantage in rows if not exchanged)


def numbered(completions, **_):
    """A second reward, different for every rollout of a batch."""
    return [float(n**2) for n in range(len(completions))]


@pytest.mark.parametrize("level", ["token", "sequence"])
def test_old_log_probabilities_of_exchanged_rollouts_do_not_matter(run, monkeypatch, level):
    """Those kept from the rollout before do not belong to the new response; without an advantage none is read."""
    layout = {"num_iterations": 2, "gradient_accumulation_steps": 1, "steps_per_generation": 2, "max_steps": 4}
    settings = {**layout, "importance_sampling_level": level, "learning_rate": 0.01}
    results = []
    for name, shift in (("kept", 0.0), ("shifted", 3.0)):

        def shifted(columns, new, *rest, shift=shift):
            replace_responses(columns, new, *rest)
            columns["old_per_token_logps"][list(new)] -= shift

        monkeypatch.setattr("ptdpo.train.trainer.replace_responses", shifted)
        reward = Staged(own=lambda n: n in (5, 6), drawn=lambda n: True)
        trainer = run(f"{name}-{level}", reward=reward, **settings)
        results.append((parameters(trainer), metrics(trainer)))
    (first, rows), (second, others) = results
    assert rows[0]["tutored/exchanged"] == 0.5
    assert largest_difference(first, second) == 0
    for name in ("loss", "clip_ratio/region_mean", "entropy"):
        assert [row[name] for row in rows] == [row[name] for row in others]


def test_wrong_ones_are_not_tutored(run, tiny_path):
    trainer = run(reward=Staged(own=lambda n: False, drawn=lambda n: False), max_steps=1)
    assert metrics(trainer)[0]["tutored/rollouts"] == 0
    assert moved(trainer, tiny_path) == 0


def test_without_failed_groups_nothing_is_drawn(run):
    reward = Staged(own=lambda n: n % 2, drawn=lambda n: pytest.fail("drawn"))
    trainer = run(reward=reward, max_steps=1)
    assert len(reward.calls) == 1
    assert metrics(trainer)[0]["tutored/exchanged"] == 0


def test_logged_lengths_are_those_of_the_policy_s_own_rollouts(run):
    reward = Staged(own=lambda n: False, drawn=lambda n: True)
    row = metrics(run(reward=reward, max_steps=1))[0]
    lengths = [len(ids) for ids in reward.calls[0]]
    assert row["completions/mean_length"] == pytest.approx(sum(lengths) / len(lengths))


def test_the_sum_is_divided_by_all_response_tokens(run):
    trainer = run(reward=Staged(own=lambda n: n > 3, drawn=lambda n: n == 0), max_steps=1)
    tokens = sum(int(batch["completion_mask"].sum()) for batch in trainer._buffered_inputs)
    assert trainer.method.step.tutored_tokens == tokens > metrics(trainer)[0]["tutored/tokens"]
    assert all(int(batch["num_items_in_batch"]) == tokens for batch in trainer._buffered_inputs)


def test_the_baseline_leaves_the_rollout_itself_out(run):
    trainer = run(reward=Staged(own=lambda n: n in (0, 5, 6), drawn=lambda n: False), max_steps=1)
    advantages = sorted(torch.cat([b["advantages"] for b in trainer._buffered_inputs]).tolist())
    # One of four right: 1 - 0 and 0 - 1/3; two of four: 1 - 1/3 and 0 - 2/3.
    expected = sorted([1.0, -1 / 3, -1 / 3, -1 / 3, 2 / 3, 2 / 3, -2 / 3, -2 / 3])
    assert advantages == pytest.approx(expected, abs=1e-6)


def test_longer_responses_widen_the_batch():
    batch = {
        "prompt_ids": torch.ones(2, 3, dtype=torch.long),
        "prompt_mask": torch.ones(2, 3, dtype=torch.long),
        "completion_ids": torch.tensor([[5, 6], [7, 9]]),
        "completion_mask": torch.tensor([[1, 1], [1, 0]]),
        "mm_token_type_ids": torch.ones(2, 5, dtype=torch.long),
        "old_per_token_logps": torch.full((2, 2), -1.0),
        "importance_sampling_ratio": torch.full((2, 1), 0.5),
        "pixel_values": torch.ones(8, 2),
    }
    replace_responses(batch, {1: [1, 2, 3, 4]}, 9, OneProcess())
    assert batch["completion_ids"].tolist() == [[5, 6, 9, 9], [1, 2, 3, 4]]
    assert batch["completion_mask"].tolist() == [[1, 1, 0, 0], [1, 1, 1, 1]]
    assert batch["mm_token_type_ids"].shape == (2, 7)
    assert batch["old_per_token_logps"].tolist()[0] == [-1.0, -1.0, 0.0, 0.0]
    assert batch["importance_sampling_ratio"].shape == (2, 1)
    assert batch["pixel_values"].shape == (8, 2)
    assert batch["num_items_in_batch"] == 2 + 4
    replace_responses(batch, {0: [8]}, 9, OneProcess())
    assert batch["completion_ids"].tolist()[0] == [8, 9, 9, 9]
    assert batch["completion_mask"].tolist()[0] == [1, 0, 0, 0]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"tutoring_select": "failed"}, "set tutoring_select=all_fail_groups"),
        ({"beta": 0.1}, "set beta=0"),
        ({"perception_weight": 0.1}, "perception terms would be taken on rollouts that the policy did not draw"),
        ({"tutoring_ratio_clip": 2.0}, r"tutoring_ratio_clip=2\.0: .* no importance ratio"),
        ({"tutoring_context": "question", "tutoring_teacher": "frozen"}, "nothing is drawn anew"),
        ({"scale_rewards": "group"}, "set scale_rewards=none"),
        ({"tutoring_rollouts": "nobody"}, "tutoring_rollouts: expected one of student, teacher, found 'nobody'"),
        ({"tutoring_divergence": "reverse_kl"}, "infinite"),
    ],
)
def test_settings_that_make_no_sense_are_refused(tmp_path, settings, message):
    with pytest.raises(ValueError, match=message):
        PTDConfig.from_preset("hdpo", output_dir=str(tmp_path), use_cpu=True, bf16=False, **settings)
