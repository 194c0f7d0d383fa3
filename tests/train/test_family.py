"""Teacher, context, route and divergence as settings: the presets beyond PTD-PO."""

import json

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import TrainerState

from ptdpo.data.dataset import rl_dataset
from ptdpo.models import TinyVLMSettings, load_model, load_processor, make_tiny_vlm
from ptdpo.presets import PRESETS, SFT
from ptdpo.train import PTDConfig
from ptdpo.train.metrics import read_metrics
from ptdpo.train.trl.teachers import EMA_FILE, MovingAverage
from tests.train.helpers import Alternating, always_wrong, largest_difference, make_trainer, parameters, with_views

SGD = {"optim": "sgd", "learning_rate": 0.5, "max_grad_norm": 0.0, "weight_decay": 0.0}


@pytest.fixture
def rows(scenes):
    hints = {s.problem.id: s.hint for s in scenes}
    solutions = {s.problem.id: s.solution.response for s in scenes}
    return rl_dataset(with_views([s.problem for s in scenes]), hints, instruction="", solutions=solutions)


@pytest.fixture
def other_model(tiny_path, processor, tmp_path):
    """A model of the same vocabulary with other weights."""
    model = load_model(tiny_path)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    model.save_pretrained(tmp_path / "other")
    processor.save_pretrained(tmp_path / "other")
    return str(tmp_path / "other")


@pytest.fixture
def run(tmp_path, tiny_path, processor, rows):
    def start(name="run", **settings):
        trainer = make_trainer(
            tmp_path / name, tiny_path, processor, rows, **{"reward": Alternating(3), **SGD, **settings}
        )
        trainer.train()
        return trainer

    return start


def metrics(trainer):
    return read_metrics(f"{trainer.args.output_dir}/metrics.jsonl")


def moved(trainer, tiny_path):
    start = {name: p.detach() for name, p in load_model(tiny_path).named_parameters()}
    return largest_difference(parameters(trainer), start)


@pytest.mark.parametrize("preset", ["opd", "opd-sampled", "opsd", "opsd-v1", "sdpo"])
def test_distillation_alone_moves_the_parameters(run, preset, tiny_path, other_model):
    """These presets have neither policy gradient nor reference KL: what moves is their one term."""
    settings = {"tutoring_teacher": other_model} if preset.startswith("opd") else {}
    trainer = run(preset=preset, max_steps=2, **settings)
    assert moved(trainer, tiny_path) > 1e-4
    last = metrics(trainer)[-1]
    assert last["divergence"] > 0 or preset == "opd-sampled", "an estimate from samples may be negative"
    assert ("topk_overlap" in last) == (preset == "sdpo")
    if preset != "sdpo":
        assert last["tutored/rollouts"] == 8, "every rollout is tutored, right or wrong"


def test_the_sampled_advantage_is_the_teacher_s_log_ratio(run, other_model, tiny_path, processor):
    """The logged mean is that of log S - log T over the sampled tokens, each scored by its whole model."""
    trainer = run(preset="opd-sampled", tutoring_teacher=other_model, max_steps=1, gradient_accumulation_steps=1)
    (batch,) = trainer._buffered_inputs
    scores = []
    for path in (tiny_path, other_model):
        model = load_model(path)
        names = ("pixel_values", "image_grid_thw", "mm_token_type_ids")
        inputs = {name: batch[name] for name in names if name in batch}
        ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], dim=1)
        mask = torch.cat([batch["prompt_mask"], batch["completion_mask"]], dim=1)
        with torch.no_grad():
            logits = model(input_ids=ids, attention_mask=mask, **inputs).logits / trainer.temperature
        width = batch["completion_ids"].size(1)
        log_p = logits[:, -1 - width : -1].log_softmax(-1).gather(-1, batch["completion_ids"].unsqueeze(-1))
        scores.append(log_p.squeeze(-1)[batch["completion_mask"].bool()])
    expected = (scores[0] - scores[1]).mean().item()
    assert metrics(trainer)[0]["divergence"] == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(("schedule", "second"), [("constant", 1.0), ("linear", 0.5), ("cosine", 0.5)])
def test_the_weight_follows_its_schedule(run, tiny_path, schedule, second):
    """With SGD and a tutoring term alone, a step is proportional to lambda."""
    settings = {"preset": "opsd", "max_steps": 2, "learning_rate": 1e-3, "per_device_train_batch_size": 8}
    settings |= {"gradient_accumulation_steps": 1, "shuffle_dataset": False}
    rows = metrics(run(schedule, tutoring_schedule=schedule, **settings))
    plain = metrics(run(f"plain-{schedule}", **settings))
    assert rows[0]["grad_norm"] == pytest.approx(plain[0]["grad_norm"], rel=1e-5)
    assert rows[1]["grad_norm"] == pytest.approx(second * plain[1]["grad_norm"], rel=1e-5)


def test_without_its_term_such_a_preset_stands_still(run, tiny_path):
    trainer = run(preset="opsd", max_steps=2, tutoring_weight=0.0, share_prefix=False)
    assert moved(trainer, tiny_path) == 0


def test_sdpo_needs_a_right_sibling(run, tiny_path):
    trainer = run(preset="sdpo", reward=always_wrong, max_steps=1)
    assert metrics(trainer)[0]["tutored/rollouts"] == 0
    assert moved(trainer, tiny_path) == 0


@pytest.mark.parametrize("context", ["hint", "answer", "solution", "question"])
def test_the_divergence_is_that_of_what_the_teacher_reads(run, context):
    settings = {"tutoring_context": context, "tutoring_select": "every", "max_steps": 1}
    value = metrics(run(context, preset="ptd-grpo", **settings))[0]["divergence"]
    if context == "question":
        assert value == pytest.approx(0, abs=1e-6), "the start reading the same question is the start"
    else:
        assert value > 1e-5


def test_the_current_teacher_has_the_policy_s_weights(run):
    shared = {"preset": "ptd-grpo", "max_steps": 3}
    frozen = metrics(run("frozen", tutoring_teacher="frozen", **shared))
    current = metrics(run("current", tutoring_teacher="current", **shared))
    assert current[0]["divergence"] == pytest.approx(frozen[0]["divergence"], rel=1e-4)
    assert current[2]["divergence"] != pytest.approx(frozen[2]["divergence"], rel=1e-2)


def test_the_moving_average_lies_between_start_and_policy(run, tiny_path):
    trainer = run(preset="ptd-grpo", tutoring_teacher="ema", tutoring_ema_rate=0.25, max_steps=1)
    start = {name: p.detach() for name, p in load_model(tiny_path).named_parameters()}
    teacher = dict(trainer.teacher._unwrapped.named_parameters())
    for name, policy in parameters(trainer).items():
        torch.testing.assert_close(teacher[name].detach(), start[name].lerp(policy, 0.25))


def test_the_moving_average_resumes_to_the_last_bit(tmp_path, tiny_path, processor, rows):
    def made(name, **settings):
        shared = {"preset": "ptd-grpo", "tutoring_teacher": "ema", "reward": Alternating(3), "save_strategy": "steps"}
        return make_trainer(tmp_path / name, tiny_path, processor, rows, **{**shared, "save_steps": 2, **settings})

    whole = made("whole", max_steps=4)
    whole.train()
    first = made("parts", max_steps=2)
    first.train()
    second = made("parts", max_steps=4)
    second.train(resume_from_checkpoint=True)
    assert (tmp_path / "parts" / "checkpoint-2" / EMA_FILE).is_file()
    mine, reference = parameters(second), parameters(whole)
    assert all(torch.equal(mine[name], reference[name]) for name in reference)
    teachers = [dict(t.teacher._unwrapped.named_parameters()) for t in (second, whole)]
    assert all(torch.equal(teachers[0][name], teachers[1][name]) for name in teachers[0])
    made("frozen", tutoring_teacher="frozen", max_steps=2).train()
    with pytest.raises(ValueError, match="holds no ema_teacher"):
        made("frozen", max_steps=4).train(resume_from_checkpoint=True)


def test_another_vocabulary_is_refused_before_the_policy_is_loaded(tmp_path, tiny_path, processor, rows, monkeypatch):
    folder = make_tiny_vlm(tmp_path / "foreign", ["quite other words here"] * 20, TinyVLMSettings(hidden=32, heads=2))
    monkeypatch.setattr("trl.GRPOTrainer.__init__", lambda *a, **k: pytest.fail("weights were loaded"))
    with pytest.raises(ValueError, match="its tokenizer is not the policy's"):
        make_trainer(tmp_path / "run", tiny_path, processor, rows, preset="opd", tutoring_teacher=str(folder))
    assert load_processor(str(folder)) is not None


def test_a_head_of_another_size_is_refused_before_the_policy_is_loaded(
    tmp_path, tiny_path, processor, rows, other_model, monkeypatch
):
    """As in Qwen2.5-VL, whose larger models pad their head further: one tokenizer, two sizes."""
    model = load_model(other_model)
    model.resize_token_embeddings(model.config.get_text_config().vocab_size + 8)
    model.save_pretrained(other_model)
    settings = {"preset": "opd", "tutoring_teacher": other_model, "reward": Alternating(3), "max_steps": 1}
    sampled = {**settings, "preset": "opd-sampled"}
    trainer = make_trainer(tmp_path / "run", tiny_path, processor, rows, **sampled)
    trainer.train()
    monkeypatch.setattr("trl.GRPOTrainer.__init__", lambda *a, **k: pytest.fail("weights were loaded"))
    with pytest.raises(ValueError, match=r"its head has \d+ ids, the policy's \d+, .* or tutoring_use=advantage"):
        make_trainer(tmp_path / "run", tiny_path, processor, rows, **settings)


def test_a_misspelt_teacher_is_refused_by_name(tmp_path, tiny_path, processor, rows):
    with pytest.raises(ValueError, match="tutoring_teacher='frozn': neither frozen, current or ema nor a model"):
        make_trainer(tmp_path, tiny_path, processor, rows, tutoring_teacher="frozn")


def test_another_vocabulary_is_refused_when_the_model_brings_its_processor(tmp_path, tiny_path, rows):
    folder = make_tiny_vlm(tmp_path / "foreign", ["quite other words here"] * 20, TinyVLMSettings(hidden=32, heads=2))
    with pytest.raises(ValueError, match="its tokenizer is not the policy's"):
        make_trainer(
            tmp_path, load_model(tiny_path), None, rows, preset="opd", tutoring_teacher=str(folder), reward=always_wrong
        )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"tutoring_context": "sibling"}, "set tutoring_select=with_sibling or failed_with_sibling"),
        ({"tutoring_weight": -0.5, "tutoring_divergence": "forward_kl"}, "tutoring_weight=-0.5: .* no upper bound"),
        ({"tutoring_weight": -0.5, "tutoring_use": "advantage"}, "tutoring_advantage=log_ratio has no bound"),
        ({"tutoring_advantage": "jsd"}, "tutoring_use=loss: tutoring_standardised, tutoring_advantage and"),
        ({"tutoring_standardised": True, "tutoring_use": "reweight"}, "tutoring_use=reweight: tutoring_standardised"),
        ({"tutoring_gate": "position", "tutoring_use": "reweight"}, "tutoring_gate=position: weighs a term"),
        ({"tutoring_gate_sharpness": 2.0}, "set tutoring_gate too"),
        ({"tutoring_gate_normalised": True}, "set tutoring_gate too"),
        ({"tutoring_gate": "position", "tutoring_gate_threshold": 1.0}, "is an entropy; .* not position"),
        ({"tutoring_gate": "student_entropy", "tutoring_gate_above": -1.0}, "above what"),
        ({"tutoring_gate": "student_entropy", "tutoring_gate_normalised": True}, "known before it is scored"),
        (
            {
                "tutoring_gate": "student_entropy",
                "tutoring_gate_threshold": 1.0,
                "tutoring_gate_above": -1.0,
                "tutoring_divergence": "reverse_kl",
            },
            "tutoring_gate_above=-1.0: .*reverse_kl has no upper bound",
        ),
        (
            {"tutoring_entropy_floor": 0.9, "tutoring_entropy_reopen": 0.8},
            "at least tutoring_entropy_floor=0.9",
        ),
        ({"tutoring_keep_rl": False, "tutoring_use": "reweight"}, "nothing would be left to redistribute"),
        (
            {
                "tutoring_weight": -0.1,
                "tutoring_rollouts": "teacher",
                "tutoring_select": "all_fail_groups",
                "beta": 0.0,
            },
            "would push away from right responses",
        ),
        ({"tutoring_context": "question", "tutoring_teacher": "current"}, "current teacher .* nothing to teach"),
        ({"tutoring_context": "question", "rl_weight": 0.0}, "frozen teacher .* path of another model"),
        ({"tutoring_clip": 0.05}, "set tutoring_support=full"),
        ({"tutoring_clip": -1.0, "tutoring_support": "full"}, "tutoring_clip=-1.0: must be above 0"),
        ({"tutoring_ratio_clip": 0.0}, "tutoring_ratio_clip=0.0: must be above 0"),
        ({"tutoring_ema_rate": 0.0}, "tutoring_ema_rate=0.0"),
        ({"tutoring_context": "telepathy"}, "tutoring_context='telepathy'"),
        ({"tutoring_use": "advantage", "tutoring_support": "full"}, "sampled token only"),
        ({"tutoring_use": "reweight", "tutoring_support": "full"}, "=reweight looks at the sampled token only"),
        ({"tutoring_use": "reweight", "rl_weight": 0.0}, "no advantages to redistribute"),
        ({"tutoring_use": "reweight", "tutoring_weight": 1.5}, "tutoring_weight=1.5: .* from -1 to 1"),
        ({"tutoring_use": "reweight", "tutoring_ratio_clip": 2.0}, "leave out tutoring_ratio_clip and tutoring_mean"),
        ({"tutoring_use": "reweight", "tutoring_mean": "all"}, "leave out tutoring_ratio_clip and tutoring_mean"),
        ({"tutoring_use": "reweight", "loss_type": "cispo"}, "loss_type='cispo' does not take an advantage for each"),
        (
            {"tutoring_use": "reweight", "tutoring_rollouts": "teacher", "tutoring_select": "all_fail_groups"},
            "what the teacher drew has no advantage",
        ),
        ({"tutoring_use": "shift", "rl_weight": 0.0}, "use=shift with rl_weight=0: there are no advantages"),
        ({"tutoring_use": "shift", "tutoring_mean": "all"}, "tutoring_use=shift adds no term"),
        ({"tutoring_use": "shift", "tutoring_shift_apart": True}, "apart=True with loss_type='grpo'"),
        (
            {"tutoring_use": "shift", "tutoring_shift_apart": True, "loss_type": "dapo"},
            "tutoring_contrast=none: two means .* known before",
        ),
        ({"tutoring_shift_apart": True}, "no advantage is moved with tutoring_use=loss"),
        ({"tutoring_contrast": "question"}, "tutoring_contrast=question: with tutoring_use=loss"),
        ({"tutoring_contrast": "failed_siblings", "tutoring_use": "shift"}, "tutoring_context=hint shows none"),
        (
            {"tutoring_contrast": "question", "tutoring_use": "shift", "tutoring_context": "question"},
            "is all that tutoring_context=question shows",
        ),
        ({"tutoring_contrast": "hint"}, "tutoring_contrast: expected one of none, failed_siblings, question"),
        ({"tutoring_reweight_clip": 1.5}, "tutoring_reweight_clip=1.5: must be"),
        (
            {"tutoring_schedule": "sudden"},
            "tutoring_schedule: expected one of .*, found 'sudden'",
        ),
        ({"tutoring_support": "full", "head": "dense"}, "leave head=fused"),
    ],
)
def test_answers_that_make_no_sense_together_are_refused(tmp_path, settings, message):
    with pytest.raises(ValueError, match=message):
        PTDConfig.from_preset("ptd-grpo", output_dir=str(tmp_path), use_cpu=True, bf16=False, **settings)


def test_opd_without_a_teacher_is_refused(tmp_path):
    with pytest.raises(ValueError, match="path of another model"):
        PTDConfig.from_preset("opd", output_dir=str(tmp_path), use_cpu=True, bf16=False)


LORA = {"r": 2, "target_modules": ["q_proj", "v_proj"], "task_type": "CAUSAL_LM"}
RL_PRESETS = sorted(PRESETS.keys() - {SFT})


@pytest.mark.parametrize("preset", RL_PRESETS)
def test_every_preset_trains_an_adapter_and_holds_no_second_model(run, preset, other_model):
    """The frozen teacher is the base model with the adapter off, the moving average an average of the adapter."""
    settings = {"tutoring_teacher": other_model} if preset.startswith("opd") else {}
    settings |= {"perception_weight": 1.0} if preset == "papo-printed" else {}
    trainer = run(preset=preset, peft_config=LoraConfig(**LORA), max_steps=2, **settings)
    changed = {name: p for name, p in trainer.model.named_parameters() if "lora_B" in name}
    if preset == "hdpo":
        assert metrics(trainer)[0]["groups/all_fail"] == 0, "nothing to distil here, the policy gradient moves"
    assert max(p.abs().max().item() for p in changed.values()) > 0
    assert all(not p.requires_grad for name, p in trainer.model.named_parameters() if "lora_" not in name)
    if trainer.teacher is not None and not preset.startswith("opd"):
        assert trainer.teacher._unwrapped is trainer.accelerator.unwrap_model(trainer.model)


def test_the_average_of_an_adapter_is_lent_to_the_policy_and_taken_back(run):
    trainer = run(preset="sdpo", peft_config=LoraConfig(**LORA), tutoring_ema_rate=0.25, max_steps=1)
    average = next(c for c in trainer.callback_handler.callbacks if isinstance(c, MovingAverage))
    own = parameters(trainer)
    lora_b = [name for name in own if "lora_B" in name]
    assert set(average.average) == {name for name in own if "lora_" in name}
    with trainer.teacher._weights():
        lent = parameters(trainer)
    # A fresh adapter starts with B = 0, so after one step the average is a quarter of the policy's.
    assert max(own[name].abs().max().item() for name in lora_b) > 0
    for name in lora_b:
        torch.testing.assert_close(lent[name], 0.25 * own[name])
    assert all(torch.equal(value, own[name]) for name, value in parameters(trainer).items())


def test_presets_are_json(tmp_path):
    assert json.loads(json.dumps({name: dict(values) for name, values in PRESETS.items()})).keys() == PRESETS.keys()


def test_a_moving_average_of_bfloat16_weights_moves():
    """A step of 5 % of a small difference is lost in bfloat16; the average is kept in float32."""
    policy, teacher = (torch.nn.Linear(40, 40).to(torch.bfloat16) for _ in range(2))
    with torch.no_grad():
        for mine, theirs in zip(teacher.parameters(), policy.parameters(), strict=True):
            mine.copy_(theirs * (1 + 1 / 64))
    average = MovingAverage(policy, 0.05, teacher)
    for step in range(1, 201):
        average.on_step_end(None, TrainerState(global_step=step), None)
    for mine, theirs in zip(teacher.parameters(), policy.parameters(), strict=True):
        assert torch.equal(mine, theirs)


def test_a_moving_average_moves_every_so_many_steps():
    """With rate 1 it is a copy that is renewed so often (RLCSD)."""
    policy = torch.nn.Linear(1, 1, bias=False)
    copies, average = [], MovingAverage(policy, 1.0, torch.nn.Linear(1, 1, bias=False), interval=3)
    for step in range(1, 8):
        with torch.no_grad():
            policy.weight.fill_(step)
        average.on_step_end(None, TrainerState(global_step=step), None)
        copies.append(average.teacher.weight.item())
    assert copies[2:] == [3, 3, 3, 6, 6]


@pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings=True`:UserWarning")
def test_an_adapter_on_the_head_is_refused(tmp_path, tiny_path, processor, rows):
    lora = LoraConfig(r=2, target_modules=["q_proj", "lm_head"], task_type="CAUSAL_LM")
    with pytest.raises(ValueError, match="PEFT adapter to `lm_head` is not supported"):
        make_trainer(tmp_path, tiny_path, processor, rows, peft_config=lora)


def test_a_given_adapter_needs_a_reference_to_stay(tmp_path, tiny_path, processor, rows):
    lora = LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM")
    model = get_peft_model(load_model(tiny_path), lora)
    with pytest.raises(ValueError, match="merge the adapter into the model first"):
        make_trainer(tmp_path, model, processor, rows, preset="ptd-dapo")


def test_a_reference_that_moves_cannot_be_frozen(tmp_path, tiny_path, processor, rows):
    with pytest.raises(ValueError, match="sync_ref_model=True moves the reference"):
        make_trainer(tmp_path, tiny_path, processor, rows, sync_ref_model=True)


@pytest.mark.parametrize("setting", [{"entropy_coef": 0.1}, {"top_entropy_quantile": 0.5}])
def test_parts_by_tokens_refuse_losses_over_whole_micro_batches(tmp_path, setting):
    with pytest.raises(ValueError, match="look at whole micro-batches"):
        PTDConfig(output_dir=str(tmp_path), micro_batch_tokens=9, use_cpu=True, bf16=False, **setting)


def test_more_ids_than_the_head_has_are_refused(tmp_path, tiny_path, processor, rows, monkeypatch):
    monkeypatch.setattr("trl.GRPOTrainer.__init__", lambda *a, **k: pytest.fail("weights were loaded"))
    with pytest.raises(ValueError, match=r"tutoring_k=1000000: the model's head has only \d+ ids"):
        make_trainer(tmp_path, tiny_path, processor, rows, tutoring_k=1_000_000)
