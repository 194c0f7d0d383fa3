"""What a dry run finds before weights are loaded."""

import copy

import pytest
import yaml

from ptdpo.config import read_recipe
from ptdpo.data.files import write_hints, write_problems, write_solutions
from ptdpo.records import Solution
from ptdpo.train.plan import make_plan
from ptdpo.train.run import train_recipe
from ptdpo.train.trl.setup import pad_left


@pytest.mark.parametrize("check", [make_plan, train_recipe])
def test_a_solution_that_the_teacher_reads_counts_as_part_of_its_prompt(tmp_path, scenes, tiny_path, check):
    write_problems(tmp_path / "p.jsonl", [s.problem for s in scenes])
    write_solutions(tmp_path / "s.jsonl", [Solution(scenes[0].problem.id, "word " * 5000)])
    content = {
        "preset": "opsd",
        "model": tiny_path,
        "data": {"path": str(tmp_path / "p.jsonl"), "solutions": str(tmp_path / "s.jsonl")},
        "train": {"output_dir": str(tmp_path / "run"), "use_cpu": True, "bf16": False},
    }
    (tmp_path / "r.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(ValueError, match=r"1 bad row: .* \(prompt with its solution of \d+ tokens, more than 8192"):
        check(read_recipe(tmp_path / "r.yaml"))


@pytest.mark.parametrize("check", [make_plan, train_recipe])
@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("remove_unused_columns=true", "answers and hints would be taken away"),
        ("report_to=tensorboard", "report_to=tensorboard: its package is not installed here"),
        ("report_to=wandbb", "unknown place for report_to 'wandbb'; did you mean 'wandb'"),
        ("use_liger_kernel=true", "use_liger_kernel=True: its package is not installed here"),
        ("use_vllm=true", "use_vllm=True: its package is not installed here"),
        ("push_to_hub=true", "nobody is logged in here"),
        ("eval_strategy=steps", "eval_strategy=steps: a recipe evaluates nothing while it trains"),
        ("sync_ref_model=true", "sync_ref_model=True moves the reference"),
        ("generation_batch_size=8 steps_per_generation=1", "set one of them"),
        (
            "resume_from_checkpoint=/no/such/checkpoint-9",
            "goes on from the newest checkpoint",
        ),
        ("learning_rate=.inf", "learning_rate=inf: must be a finite number"),
        ("learning_rate=1e6", r"must be in \[0, 10\]"),
        ("tutoring_weight=.inf", "must be a finite number"),
        ("beta=1e9", r"must be in \[0, 1000\]"),
        ("fp16=true", "half precision needs a GPU"),
        ("fsdp=true", "needs several processes"),
        ("loss_type=pppo", "loss_type: expected one of grpo"),
        ("lr_scheduler_type=cosine_with_min_lr", "lr_scheduler_type=cosine_with_min_lr"),
        ("reward_weights=[1]", "a recipe has two rewards"),
        ("reward_weights=[0,0]", "no reward is left"),
        ("optim=adamw_bnb_8bit", "optim=adamw_bnb_8bit: .*bitsandbytes"),
        ("optim=galore_adamw optim_target_modules=all-linear", "optim=galore_adamw: .*galore_torch"),
        ("optim=schedule_free_adamw", "optim=schedule_free_adamw: .*schedulefree"),
        ("optim=grokadamw", "optim=grokadamw: .*install"),
        ("optim=adam", "unknown optim 'adam'; did you mean"),
        ("optim_args=rank=64", "optim=adamw_torch_fused reads none of them"),
        ("optim_target_modules=all-linear", "only galore and apollo read it"),
        ("warmup_steps=100", "a constant learning rate has no warm-up"),
        ("lr_scheduler_kwargs={min_lr:1e-9}", "lr_scheduler_type=constant reads none of them"),
        ("log_level=loud", "unknown log_level 'loud'"),
        ("tf32=true", "tf32=True with use_cpu=True"),
        ("ddp_backend=gloo", "ddp_backend=gloo: one process has none"),
        ("ddp_backend=glo", "unknown ddp_backend 'glo'; did you mean 'gloo'"),
        ("ddp_timeout=0", "ddp_timeout=0"),
        ("torch_compile_backend=inductr", "unknown torch_compile_backend 'inductr'; did you mean 'inductor'"),
        ("torch_compile_mode=fast", "unknown torch_compile_mode 'fast'"),
        ("parallelism_config={tp_size:2}", "parallelism_config: "),
        ("fsdp_config={min_num_params:3}", "fsdp_config without fsdp"),
        ("dataloader_persistent_workers=true", "there are no workers"),
        ("dataloader_multiprocessing_context=spawn", "there are no workers"),
        ("dataloader_multiprocessing_context=swpan", "did you mean 'spawn'"),
        ("accelerator_config={dispatch_batches:true}", "rows are laid out in whole groups"),
        ("accelerator_config={split_batch:true}", "did you mean 'split_batches'"),
        ("data_seed=3", "the order of prompts follows seed"),
        ("train_sampling_strategy=sequential", "prompts are drawn in groups"),
        ("label_smoothing_factor=0.1", "no loss here has labels"),
        ("top_k=-1", "transformers takes 0 for no limit"),
        ("pad_to_multiple_of=0", "pad_to_multiple_of=0: must be auto or a whole number"),
        ("pad_to_multiple_of=-1", "pad_to_multiple_of=-1: must be auto or a whole number"),
        ("pad_to_multiple_of=some", "pad_to_multiple_of=some: must be auto"),
        ("cache_implementation=quantized", "optimum-quanto"),
        ("cache_implementation=statik", "did you mean 'static'"),
        ("temperature=1e-9", r"must be in \[0.01, 100\]"),
        ("delta=0.1", r"must be more than 1 \+ epsilon = 1.2"),
        ("use_adaptive_entropy=true entropy_coef_min=2", "must not exceed entropy_coef_max=1.0"),
        ("entropy_coef=-1", "must be at least 0"),
        ("top_entropy_quantile=2", r"must be in \(0, 1\]"),
        ("sapo_temperature_neg=0", "must be above 0"),
        ("off_policy_mask_threshold=-1", "must be above 0"),
        ("scale_rewards=sum", "scale_rewards: expected"),
        ("generation_kwargs={temperature:0.1}", "scoring would not know of it; set temperature"),
        ("generation_kwargs={max_new_tokens:3}", "set max_completion_length in its place"),
        ("generation_kwargs={num_return_sequences:2}", "set num_generations"),
        ("generation_kwargs={do_sample:false}", "rollouts are sampled row by row"),
        ("generation_kwargs={num_beams:3}", "rollouts are sampled row by row"),
        ("generation_kwargs={return_dict_in_generate:true}", "rollouts are sampled row by row"),
        ("generation_kwargs={stop_strings:[a]}", "rollouts are sampled row by row"),
        ("generation_kwargs={min_new_token:3}", "did you mean 'min_new_tokens'"),
        ("chat_template_kwargs={tokenize:true}", "is set by the trainer"),
        ("chat_template_kwargs={chat_template:x}", "the policy would not read"),
        ("model_init_kwargs={dtype:float33}", "model_init_kwargs.dtype=float33"),
        ("model_init_kwargs={atn_implementation:sdpa}", "did you mean 'attn_implementation'"),
        ("model_init_kwargs={attn_implementation:flash}", "unknown model_init_kwargs.attn_implementation 'flash'"),
        ("model_init_kwargs={attn_implementation:flash_attention_2}", "pip install flash-attn"),
        ("model_init_kwargs={quantization_config:{load_in_4bit:true}}", "pip install bitsandbytes"),
        ("cast_lm_head_to_fp32=true", "TRL finds no head"),
        ("router_aux_loss_coef=0.1", "the model has no experts"),
        ("use_transformers_continuous_batching=true", "models of text only"),
        ("use_transformers_paged=true", "models of text only"),
        ("tutoring_k=100000000", r"the model has only \d+ ids"),
        ("activation_checkpointing_kwargs={use_reentrent:true}", "did you mean 'use_reentrant'"),
        ("max_steps=0", "max_steps=0: set it to at least 1"),
        ("log_completions=true log_completions_hub_repo=x/y", "log_completions_hub_repo=x/y: nobody is logged in"),
        ("accuracy_reward=mine", "accuracy_reward='mine'"),
    ],
)
def test_the_dry_run_says_what_training_says(tmp_path, scenes, monkeypatch, tiny_path, check, setting, message):
    """Before any weights are read."""
    monkeypatch.setattr("ptdpo.train.trl.recipe_checks.get_token", lambda: None)
    write_problems(tmp_path / "p.jsonl", [s.problem for s in scenes])
    write_hints(tmp_path / "h.jsonl", {s.problem.id: s.hint for s in scenes}, "rule")
    content = {
        "preset": "ptd-grpo",
        "model": tiny_path,
        "data": {"path": str(tmp_path / "p.jsonl"), "hints": str(tmp_path / "h.jsonl")},
        "train": {
            "output_dir": str(tmp_path / "run"),
            "use_cpu": True,
            "bf16": False,
            "per_device_train_batch_size": 8,
        },
    }
    (tmp_path / "r.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(ValueError, match=message):
        check(read_recipe(tmp_path / "r.yaml", [one.replace(":", ": ") for one in setting.split()]))


def test_a_processor_that_pads_on_the_right_is_turned(processor):
    turned = copy.deepcopy(processor)
    turned.tokenizer.padding_side = "right"
    with pytest.warns(UserWarning, match="set to 'left'"):
        pad_left(turned)
    assert turned.tokenizer.padding_side == "left"
