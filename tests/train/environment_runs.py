"""A tiny model of text that calls the tools of environments as its script says, tutored for one step."""

import datasets

from ptdpo.train import PTDConfig, PTDTrainer
from tests import tiny_families
from tests.train.helpers import SGD, small_settings
from tests.tutor.test_rendered import template_named

CALL = '<tool_call>\n{{"name": "{}", "arguments": {{"{}": 1}}}}\n</tool_call><|im_end|>'


class Calling(PTDTrainer):
    """Calls a tool in every rollout with argument 1, then answers."""

    def _generate_single_turn(self, prompt_ids, *args, **kwargs):
        texts = ["blue<|im_end|>" if self.answered(ids) else self.call(ids) for ids in prompt_ids]
        return [self.processing_class(text, add_special_tokens=False)["input_ids"] for text in texts], None

    def answered(self, ids):
        return "<tool_response>" in self.processing_class.decode(ids).split("which colour")[-1]

    def call(self, ids):
        name, argument = ("draw", "place") if "bag" in self.processing_class.decode(ids) else ("look", "cell")
        return CALL.format(name, argument)


def save_caller(folder):
    return tiny_families.save_text_model(folder, "qwen3", template_named("qwen3"), max_position_embeddings=4096)


def trained_caller(path, folder, rows, environments):
    settings = {**small_settings(), **SGD, "tutoring_k": 10, "max_completion_length": 200}
    args = PTDConfig.from_preset("ptd-grpo", output_dir=str(folder), **settings)
    data = datasets.Dataset.from_list(rows)
    trainer = Calling(path, None, args, train_dataset=data, environment_factory=environments)
    trainer.train()
    return trainer
