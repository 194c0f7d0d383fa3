"""Each mend taken away, and the self-check that stops the run for want of it."""

import pytest

from tests.engines.models import FAMILIES

# By name: importing it warns of vLLM's version.
ROLLOUTS = "ptdpo.train.trl.vllm_rollouts"


@pytest.mark.parametrize("family", FAMILIES)
def test_images_that_are_expanded_twice(run, family, monkeypatch):
    monkeypatch.setattr(f"{ROLLOUTS}.one_token_per_image", lambda ids, *_: list(ids))
    with pytest.raises(ValueError, match=r"at the start .* expanded twice"):
        run(family, "image")


@pytest.mark.parametrize("shown", ["image", "mixed"])
@pytest.mark.parametrize("family", FAMILIES)
def test_images_as_the_old_weights_encoded_them(run, family, shown, monkeypatch):
    monkeypatch.setattr(f"{ROLLOUTS}.forget_encoded_images", lambda generation: None)
    with pytest.raises(ValueError, match=r"after the first update .* images encoded with the old weights"):
        run(family, shown)


def test_weights_that_are_not_sent(run):
    def stop_sending(trainer):
        generation, sent = trainer.vllm_generation, []
        send = generation.sync_weights
        generation.sync_weights = lambda: sent.append(1) or (send() if len(sent) == 1 else None)

    with pytest.raises(ValueError, match=r"after the first update .* weights that did not arrive"):
        run("qwen3", "text", prepare=stop_sending)
