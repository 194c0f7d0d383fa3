"""PAPO: masked images, its three terms, and both ways of scoring pi_masked."""

import random

import pytest
import torch
from PIL import Image

from ptdpo.data.images import blacken_patches
from ptdpo.models import load_model
from ptdpo.train import PTDConfig
from ptdpo.train.trl.batches import records_of
from tests.train.helpers import Alternating, largest_difference, make_trainer, parameters

SGD = {"optim": "sgd", "learning_rate": 0.5, "max_grad_norm": 0.0, "weight_decay": 0.0}
OFF = {"perception_weight": 0.0, "perception_entropy_weight": 0.0, "masked_entropy_weight": 0.0}
# No policy gradient and no reference KL: what moves is the term that is on.
ALONE = {"preset": "papo-printed", "rl_weight": 0.0, "beta": 0.0, **OFF}


@pytest.fixture
def run(tmp_path, tiny_path, processor, train_rows):
    def start(name="run", **settings):
        settings = {"reward": Alternating(3), "max_steps": 2, **SGD, **settings}
        trainer = make_trainer(tmp_path / name, tiny_path, processor, train_rows, **settings)
        trainer.train()
        return trainer

    return start


def moved(trainer, tiny_path):
    return largest_difference(parameters(trainer), dict(load_model(tiny_path).named_parameters()))


@pytest.mark.parametrize("term", sorted(OFF))
def test_each_term_alone_moves_the_parameters(run, tiny_path, term):
    assert moved(run(**{**ALONE, term: 1.0}), tiny_path) > 1e-5


def test_without_its_terms_nothing_moves(run, tiny_path):
    assert moved(run(**{**ALONE, "share_prefix": True}), tiny_path) == 0


def test_scored_at_the_rollout_the_perception_term_trains_too(run, tiny_path):
    once = run("rollout", **{**ALONE, "perception_weight": 1.0, "perception_masked": "rollout"})
    always = run("current", **{**ALONE, "perception_weight": 1.0})
    assert moved(once, tiny_path) > 1e-5
    assert largest_difference(parameters(once), parameters(always)) > 1e-6, "the masked side has a gradient here"


@pytest.mark.parametrize("term", ["perception_entropy_weight", "masked_entropy_weight"])
def test_entropies_are_pushed_down(run, tiny_path, term):
    def entropy(trainer, batch):
        with torch.no_grad():
            micro = trainer.engine.micro_batch(batch, trainer.model)
            pixels = [record.masked.pixels for record in micro.records]
            return trainer.engine.scores(micro, pixels)[1][micro.response_mask].mean()

    trainer = run(**{**ALONE, term: 1.0, "max_steps": 1, "gradient_accumulation_steps": 1})
    batch = trainer._buffered_inputs[0]
    before = run(
        "start", **{**ALONE, term: 1.0, "max_steps": 1, "learning_rate": 0.0, "gradient_accumulation_steps": 1}
    )
    assert entropy(trainer, batch) < entropy(before, batch)


@pytest.mark.parametrize("masked", ["current", "rollout"])
@pytest.mark.parametrize("loss_type", ["grpo", "dapo"])
def test_micro_batching_does_not_change_the_step(run, masked, loss_type):
    settings = {"preset": "papo-printed", "perception_masked": masked, "loss_type": loss_type}
    settings |= {"perception_weight": 1.0, "masked_entropy_weight": 1.0 if masked == "current" else 0.0}
    results = [
        parameters(
            run(f"{batch}", per_device_train_batch_size=batch, gradient_accumulation_steps=8 // batch, **settings)
        )
        for batch in (8, 2)
    ]
    assert largest_difference(*results) < 5e-6


def test_a_group_shares_its_masked_image_and_a_repeated_step_its_masks(run):
    first, second = (
        run(name, preset="papo-printed", max_steps=1, gradient_accumulation_steps=1) for name in ("one", "two")
    )
    (batch,), (again,) = first._buffered_inputs, second._buffered_inputs
    pixels, repeated = ([record.masked.pixels for record in records_of(columns)] for columns in (batch, again))
    assert all(torch.equal(a, pixels[0]) for a in pixels[1:]), "one group of four"
    assert not torch.equal(torch.cat(pixels), batch["pixel_values"])
    assert all(torch.equal(a, b) for a, b in zip(pixels, repeated, strict=True))
    assert all(record.masked.log_probs is None for record in records_of(batch))


def test_problems_without_images_have_no_masked_ones(tmp_path, tiny_path, processor, train_rows):
    rows = train_rows.map(lambda row: {**row, "images": []})
    trainer = make_trainer(tmp_path, tiny_path, processor, rows, preset="papo-printed", reward=Alternating(3), **SGD)
    trainer.train()
    assert moved(trainer, tiny_path) > 0


def test_patches_are_black_or_untouched():
    image = Image.new("RGB", (60, 45), (200, 100, 50))
    masked = blacken_patches(image, share=0.6, patch=14, rng=random.Random(3))
    cells = {(x // 14, y // 14): set() for x in range(60) for y in range(45)}
    for x in range(60):
        for y in range(45):
            cells[x // 14, y // 14].add(masked.getpixel((x, y)))
    assert all(colours in ({(0, 0, 0)}, {(200, 100, 50)}) for colours in cells.values())
    assert 0.3 < sum(c == {(0, 0, 0)} for c in cells.values()) / len(cells) < 0.9
    assert image.getpixel((0, 0)) == (200, 100, 50), "the given image stays"
    assert blacken_patches(image, share=0.0, patch=14, rng=random.Random(3)).tobytes() == image.tobytes()
    with pytest.raises(ValueError, match="patch at least 1"):
        blacken_patches(image, share=0.5, patch=0, rng=random.Random(0))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"masked_entropy_weight": 0.1, "perception_masked": "rollout"}, "trains nothing"),
        ({"perception_weight": -1.0}, "perception_weight=-1.0: must be in \\[0, 1000\\]"),
        ({"perception_mask_share": 0.0}, "perception_mask_share=0.0"),
        ({"perception_patch": 0}, "perception_patch=0"),
        ({"perception_estimator": "best"}, "perception_estimator: expected one of .*, found 'best'"),
        ({"loss_type": "bnpo"}, "loss_type='bnpo': perception"),
    ],
)
def test_settings_that_make_no_sense_are_refused(tmp_path, settings, message):
    with pytest.raises(ValueError, match=message):
        PTDConfig.from_preset("papo-printed", output_dir=str(tmp_path), use_cpu=True, bf16=False, **settings)
