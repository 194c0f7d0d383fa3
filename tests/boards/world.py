"""A hidden board that must be asked before one can answer: environment, data, reward, and a tiny model that can call.

Every name belongs to one cell of every board, which nobody says: a policy finds it by asking, a hint tells it. What
stands in the cell differs from board to board, so the answer has to be looked up.
"""

import random
from pathlib import Path

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from ptdpo.data.rendering import render
from ptdpo.tutor.context import hinted_prompt
from tests.tutor.test_rendered import template_named

CELLS = 48
NAMES = ("amber", "birch", "cedar", "dove", "elm", "fox", "gull", "hazel", "iris", "jade", "kite", "lark")
COLOURS = ("red", "blue", "green", "black", "white", "brown", "pink", "grey")
# The rule that hints give away: a name's cell.
SECRET = {name: (5 * number + 3) % CELLS for number, name in enumerate(NAMES)}
END = "<|im_end|>"
_ANSWERED = "\n<|im_start|>user\n<tool_response>\n{}\n</tool_response><|im_end|>\n<|im_start|>assistant\n"


class Board:
    """Hides a colour in each cell, and shows the one that is asked for."""

    def reset(self, board, secret, **_) -> str:
        """Lay the board out; returns what is said of it."""
        self.board, self.secret, self.asked = board, secret, []
        return f" There are {len(board)} cells."

    def look(self, cell: int) -> str:
        """Show a cell.

        Args:
            cell: number.
        """
        self.asked.append(cell)
        return self.board[cell]


def found(completions, environments, **_):
    """Return 1 for an answer that is the colour of the right cell, which was looked at."""
    return [
        float(board.secret in board.asked and (turns[-1].get("content") or "").strip() == board.board[board.secret])
        for turns, board in zip(completions, environments, strict=True)
    ]


def make_rows(count, seed):
    """Return that many questions, each with a board of its own and a hint."""
    draw = random.Random(seed)
    rows = []
    for number in range(count):
        name = draw.choice(NAMES)
        rows.append(
            {
                "id": f"{seed}-{number}",
                "prompt": [{"role": "user", "content": f"Where is {name}?"}],
                "hint": {"look": f"ask for cell {SECRET[name]}", "reason": "say its colour"},
                "board": [draw.choice(COLOURS) for _ in range(CELLS)],
                "secret": SECRET[name],
            }
        )
    return rows


def call_for(cell):
    """Return what a policy writes to look at a cell."""
    return f'<tool_call>\n{{"name": "look", "arguments": {{"cell": {cell}}}}}\n</tool_call>{END}'


def transcript(row, cell, tools, processor, *, hinted):
    """Return the pieces of a run in which a cell is asked for, and of each whether the policy wrote it."""
    prompt = [{**row["prompt"][0], "content": row["prompt"][0]["content"] + f" There are {CELLS} cells."}]
    shown = hinted_prompt({**row, "prompt": prompt}) if hinted else prompt
    colour = row["board"][cell]
    return [
        (render(processor, shown, tools=tools), False),
        (call_for(cell), True),
        (_ANSWERED.format(colour), False),
        (colour + END, True),
    ]


def make_tokenizer(tools, rows):
    """Return a tokenizer to which what all transcripts share is few tokens, and every number one."""
    specials = ["<|endoftext|>", "<|im_start|>", END]
    tokenizer = Tokenizer(models.BPE())
    numbers = pre_tokenizers.Digits(individual_digits=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([numbers, pre_tokenizers.ByteLevel(False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    plain = _fast(tokenizer)
    texts = ["".join(text for text, _ in transcript(row, row["secret"], tools, plain, hinted=n % 2 > 0))
             for n, row in enumerate(rows)]  # fmt: skip
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=700, special_tokens=specials, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    return _fast(tokenizer)


def _fast(tokenizer):
    named = {"eos_token": END, "pad_token": "<|endoftext|>"}
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, padding_side="left", **named)
    fast.chat_template = template_named("qwen3")
    return fast


def encoded(pieces, tokenizer):
    """Return the ids of a transcript piece by piece, as rollouts are put together, and labels for what was written."""
    ids, labels = [], []
    for text, own in pieces:
        read = tokenizer(text, add_special_tokens=False)["input_ids"]
        ids += read
        labels += read if own else [-100] * len(read)
    return torch.tensor(ids), torch.tensor(labels)


def make_start(folder, seed=0, steps=500, batch=32):
    """Train and save a tiny model that calls, answers with what it is shown and follows hints, and knows no rule.

    Without a hint it has seen every cell asked for equally often, whatever the name.
    """
    draw = random.Random(seed)
    tools, rows = [Board().look], make_rows(2_000, seed=1_000 + seed)
    tokenizer = make_tokenizer(tools, rows)
    config = transformers.Qwen3Config(
        vocab_size=len(tokenizer), hidden_size=96, intermediate_size=192, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=4, head_dim=24, max_position_embeddings=512, tie_word_embeddings=False,
        pad_token_id=tokenizer.pad_token_id, eos_token_id=tokenizer.eos_token_id, bos_token_id=None)  # fmt: skip
    torch.manual_seed(seed)
    model = transformers.Qwen3ForCausalLM(config)
    optimiser = torch.optim.AdamW(model.parameters(), lr=2e-3)
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = 2e-3 * min(1.0, 2 * (1 - step / steps))
        examples = []
        for row in draw.sample(rows, batch):
            hinted = draw.random() < 0.6
            # A hint is followed wherever it points; without one any cell is asked for.
            cell = draw.randrange(CELLS)
            shown = {**row, "hint": {**row["hint"], "look": f"ask for cell {cell}"}}
            examples.append(encoded(transcript(shown, cell, tools, tokenizer, hinted=hinted), tokenizer))
        pad = torch.nn.utils.rnn.pad_sequence
        ids = pad([ids for ids, _ in examples], batch_first=True, padding_value=tokenizer.pad_token_id)
        labels = pad([labels for _, labels in examples], batch_first=True, padding_value=-100)
        loss = model(ids, attention_mask=(labels != -100) | (ids != tokenizer.pad_token_id), labels=labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad()
        if step % 100 == 0:
            print(f"start model: step {step} of {steps}, loss {loss.item():.3f}, {ids.size(1)} tokens", flush=True)
    Path(folder).mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)
