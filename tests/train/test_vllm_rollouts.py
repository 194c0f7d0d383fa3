import inspect
from types import SimpleNamespace

import pytest
from trl.generation.vllm_client import VLLMClient, parse_logprobs
from trl.generation.vllm_generation import VLLMGeneration

from ptdpo.train import PTDConfig
from ptdpo.train.trl.vllm_rollouts import (
    check_limit,
    forget_encoded_images,
    mend_vllm,
    one_token_per_image,
)

IMAGE, START, END = 9, 7, 8


class FakeGeneration:
    """Stands in for TRL's ``VLLMGeneration``: keeps what it is called with."""

    def __init__(self, mode="colocate", status=200):
        self.mode, self.generation_kwargs = mode, {"logit_bias": {3: 1.0}}
        self.calls, self.events = [], []
        engine = SimpleNamespace(reset_encoder_cache=lambda: self.events.append("forgot"))
        self.llm = SimpleNamespace(llm_engine=engine)
        self.accelerator = SimpleNamespace(is_main_process=True)
        post = lambda url: self.events.append(url) or SimpleNamespace(status_code=status)  # noqa: E731
        session, answer = SimpleNamespace(post=post), lambda url, **_: self.answer
        self.vllm_client = SimpleNamespace(base_url="http://here", session=session, _post=answer)
        self.answer = {}

    def generate(self, prompts, images, num_generations, profiler=None):
        self.calls.append((prompts, images))
        return prompts, [[1]] * len(prompts), [[[0.0]]] * len(prompts), None

    def sync_weights(self):
        self.events.append("sent")


def mended(**settings):
    generation = FakeGeneration(**settings)
    mend_vllm(generation, model_type="qwen3_vl", image_token_id=IMAGE, banned=[7, 8])
    return generation


def test_each_image_is_one_token_again_and_the_prompt_comes_back_whole():
    generation = mended()
    prompts = [[1, START, IMAGE, IMAGE, IMAGE, END, 2, START, IMAGE, IMAGE, END], [1, 2, 2]]
    returned, ids, *_ = generation.generate(prompts=prompts, images=[["a", "b"], []], num_generations=1)
    assert generation.calls == [([[1, START, IMAGE, END, 2, START, IMAGE, END], [1, 2, 2]], [["a", "b"], None])]
    assert returned == prompts
    assert ids == [[1], [1]]


@pytest.mark.parametrize("images", [None, [[], None]])
def test_prompts_without_any_image_pass_as_text(images):
    generation = mended()
    generation.generate(prompts=[[1], [2]], images=images, num_generations=1)
    assert generation.calls == [([[1], [2]], None)]


def test_a_server_is_given_expanded_prompts():
    generation = mended(mode="server")
    generation.generate(prompts=[[START, IMAGE, IMAGE, END]], images=[["a"]], num_generations=1)
    assert generation.calls == [([[START, IMAGE, IMAGE, END]], [["a"]])]


@pytest.mark.parametrize("mode", ["colocate", "server"])
@pytest.mark.parametrize("images", [None, [["a"], None]])
def test_a_sampled_image_token_is_refused_by_name(mode, images):
    generation = FakeGeneration(mode)
    generation.generate = lambda prompts, *_, **__: (prompts, [[1, 2], [4, IMAGE]], [[[0.0]]] * 2, None)
    mend_vllm(generation, model_type="qwen3_vl", image_token_id=IMAGE, banned=[])
    with pytest.raises(ValueError, match=r"response 1: vLLM sampled an image token \(id 9, place 1\).*ban_special"):
        generation.generate(prompts=[[START, IMAGE, END], [1]], images=images, num_generations=1)


@pytest.mark.parametrize(("ids", "images", "runs"), [([IMAGE, IMAGE], 2, 1), ([IMAGE, 1, IMAGE], 1, 2), ([1], 1, 0)])
def test_runs_and_images_that_do_not_match_are_refused(ids, images, runs):
    with pytest.raises(ValueError, match=f"has {runs} runs of image tokens but {images} image"):
        one_token_per_image(ids, IMAGE, images, "qwen3_vl")


def test_a_family_whose_prompts_are_written_otherwise_is_refused_with_images_only():
    assert one_token_per_image([1, 2], IMAGE, 0, "gemma3") == [1, 2]
    with pytest.raises(ValueError, match="not known for model type 'gemma3'"):
        one_token_per_image([1, IMAGE], IMAGE, 1, "gemma3")


def test_images_are_forgotten_after_weights_are_sent():
    generation = mended()
    generation.sync_weights()
    assert generation.events == ["sent", "forgot"]


def test_a_server_forgets_too_and_one_that_cannot_is_refused():
    generation = mended(mode="server")
    generation.sync_weights()
    assert generation.events == ["sent", "http://here/reset_encoder_cache"]
    with pytest.raises(ValueError, match="VLLM_SERVER_DEV_MODE=1"):
        forget_encoded_images(FakeGeneration(mode="server", status=404))


def test_bans_reach_vllm_beside_biases_of_the_user():
    assert mended().generation_kwargs == {"logit_bias": {3: 1.0, 7: -100.0, 8: -100.0}}


def test_text_models_keep_trls_generation():
    generation = FakeGeneration()
    mend_vllm(generation, model_type="qwen3", image_token_id=None, banned=[])
    assert generation.generation_kwargs == {"logit_bias": {3: 1.0}}
    assert generation.generate.__func__ is FakeGeneration.generate


def test_trl_generates_as_the_mends_expect():
    assert list(inspect.signature(VLLMGeneration.generate).parameters) == [
        "self", "prompts", "images", "num_generations", "profiler",
    ]  # fmt: skip
    assert list(inspect.signature(VLLMGeneration.sync_weights).parameters) == ["self"]


@pytest.mark.parametrize(
    ("settings", "limit"),
    [({}, 0.002), ({"top_p": 0.99}, 0.02), ({"engine_check_nats": 0.5}, 0.5), ({"engine_check_nats": 0}, None)],
)
def test_the_limit_follows_precision_and_truncation(tmp_path, settings, limit):
    args = PTDConfig(output_dir=str(tmp_path), use_cpu=True, bf16=False, report_to="none", **settings)
    assert check_limit(args) == limit


@pytest.mark.parametrize("names", [False, True])
def test_tokens_that_a_server_names_by_number_get_the_word_that_the_client_reads(names):
    """As vLLM 0.32 answers prompts with images, and as 0.31 did."""
    generation = mended(mode="server")
    named = {"token": "token_id:5"} if names else {"token_id": 5}
    other = {"token": "token_id:6"} if names else {"token_id": 6}
    entry = {**named, "logprob": -0.5, "top_logprobs": [{**named, "logprob": -0.5}, {**other, "logprob": -1.0}]}
    generation.answer = {"choices": [{"logprobs": {"content": [entry]}}, {"logprobs": None}]}
    answer = generation.vllm_client._post("http://here/inference/v1/generate", json={})
    assert parse_logprobs([answer["choices"][0]["logprobs"]]) == ([[[-0.5, -1.0]]], [[[5, 6]]])
    generation.answer = {"world_size": 1}
    assert generation.vllm_client._post("http://here/get_world_size") == {"world_size": 1}


def test_the_client_reads_answers_where_they_are_mended():
    """If this fails TRL reads answers another way: see whether ``with_token_names`` is still needed."""
    assert list(inspect.signature(VLLMClient._post).parameters) == ["self", "url", "kwargs"]
    assert "self._post(" in inspect.getsource(VLLMClient._generate_from_features)
    with pytest.raises(KeyError, match="token"):
        parse_logprobs([{"content": [{"token_id": 5, "logprob": -0.5, "top_logprobs": []}]}])
