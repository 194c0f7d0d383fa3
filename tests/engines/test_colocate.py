"""The real trainer with the real vLLM in its process: log-probabilities of both sides, token by token."""

import json

import pytest
from peft import LoraConfig

from tests.engines.models import FAMILIES
from tests.processes import gloo_processes

# Of rounding in float32; a wrong prompt, image or weight is apart by hundredths and more.
APART = 1e-4


def assert_agrees(found, limit=APART):
    assert found.keys() == {"at the start", "after the first update", "now"}
    for when, compared in found.items():
        largest = (compared.sampled - compared.scored).abs().max()
        print(f"{when}: {compared.mean:.1e} in the mean, {largest:.1e} at most, {len(compared.ids)} tokens")
        assert len(compared.ids) > 20, when
        assert compared.mean < limit, when


@pytest.mark.parametrize("shown", ["text", "image", "several", "mixed"])
@pytest.mark.parametrize("family", FAMILIES)
def test_engine_and_trainer_read_the_same(run, family, shown):
    assert_agrees(run(family, shown).found)


@pytest.mark.parametrize("engine", ["ddp", "fsdp"])
def test_two_processes_each_with_an_engine(models, tmp_path, engine):
    """Images in the rows of both processes; FSDP2 sends weights that it holds in parts."""
    said = tmp_path / "said.txt"
    gloo_processes("tests.engines.worker", engine, models("qwen3_vl"), tmp_path, said=said)
    for rank in (0, 1):
        found = json.loads((tmp_path / f"{rank}.json").read_text())
        assert found.keys() == {"at the start", "after the first update", "now"}
        for when, (mean, tokens) in found.items():
            print(f"process {rank}, {when}: {mean:.1e} in the mean, {tokens} tokens")
            assert tokens > 20, when
            assert mean < APART, when


def test_a_model_of_text(run):
    assert_agrees(run("qwen3", "text").found)


def test_an_adapter_reaches_the_engine_merged(run):
    lora = LoraConfig(r=4, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    ran = run("qwen3_vl", "mixed", peft_config=lora)
    assert_agrees(ran.found)
    adapters = [p for name, p in ran.trainer.model.named_parameters() if "lora_B" in name]
    assert max(p.abs().max().item() for p in adapters) > 1e-4


def test_what_is_truncated_is_more_probable_to_the_engine(run):
    found = run("qwen3_vl", "image", top_p=0.99, vllm_importance_sampling_mode="token_truncate").found["at the start"]
    excess = found.sampled - found.scored
    assert excess.min() > -APART
    # -log of the share that is kept, which is at least 0.99.
    assert excess.max() < 0.01006
    assert excess.mean() > 0.003


def test_the_ban_reaches_the_engine(run):
    ran = run("unhushed", "image", max_steps=1, engine_check_nats=0.0)
    banned = ran.trainer.vllm_generation.generation_kwargs["logit_bias"]
    responses = ran.responses
    assert len(responses) == 8
    assert not {token for ids in responses for token in ids} & banned.keys()


def test_what_is_banned_makes_the_rest_more_probable_and_is_named(run):
    with pytest.raises(ValueError, match=r"at the start .* leaves tokens out .*ban_special_tokens"):
        run("unhushed", "image")


def test_an_image_token_that_is_sampled_is_refused_by_name(run, models):
    from ptdpo.models.loading import model_config

    image = model_config(models("qwen3_vl")).image_token_id
    likely = {"ban_special_tokens": False, "generation_kwargs": {"logit_bias": {image: 90.0}}}
    with pytest.raises(ValueError, match=f"vLLM sampled an image token \\(id {image}, place 0\\)"):
        run("qwen3_vl", "image", **likely)
