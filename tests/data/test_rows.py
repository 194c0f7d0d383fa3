"""A row never loses its image, a bad row is one whatever reads it, and images stay where the text puts them."""

import json

import pytest
from PIL import Image

from ptdpo.config import DataSettings
from ptdpo.data.attach import hinted_question, write_data
from ptdpo.data.checks import find_bad_rows, opened
from ptdpo.data.dataset import rl_dataset, sft_dataset
from ptdpo.data.load import load_data
from ptdpo.data.prompts import attach_images, placed_text, question_text
from ptdpo.data.readable import readable_row
from ptdpo.data.rows import Reading, unboxed
from ptdpo.data.scan import read_problems, read_rows, scan_problems
from ptdpo.evaluate.loading import declare, load_benchmark
from ptdpo.evaluate.prompts import chat_messages, prompt_parts
from ptdpo.hints.prompt import hint_messages, system_prompt
from ptdpo.records import Hint, Problem
from ptdpo.tutor.context import hinted_prompt

GOOD = {"id": "good", "images": ["0.png"], "problem": "what colour?", "answer": "red"}
TWO = {**GOOD, "images": ["0.png", "1.png"]}
IN_PLACE = "First: <image> Second: <image> which is red?"


@pytest.fixture
def folder(tmp_path):
    for number, colour in enumerate(("red", "green")):
        Image.new("RGB", (32, 32), colour).save(tmp_path / f"{number}.png")
    return tmp_path


def written(folder, *rows):
    path = folder / "p.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def bad_for(row, folder, processor=None):
    """The reasons that each reader gives, of which there is one."""
    path = written(folder, GOOD, {**row, "id": "bad"})
    settings = DataSettings(path=str(path), bad_rows="drop", max_prompt_tokens=4096)
    trained = load_data(settings, processor=processor)
    asked = load_benchmark(declare("p", path), path=path, cache=folder, bad_rows="drop", processor=processor)
    assert [p.id for p in trained.problems] == [p.id for p in asked.problems] == ["good"]
    with pytest.raises(ValueError, match="1 bad row: bad "):
        load_data(DataSettings(path=str(path), max_prompt_tokens=4096), processor=processor)
    (one,), (other,) = trained.bad, asked.left_out
    assert one.id == other.id == "bad"
    assert one.reason == other.reason
    return one.reason


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"problem": "q", "answer": "a", "image": "0.png"}, "unknown key 'image'; did you mean 'images'?"),
        ({"problem": "q", "answer": "a", "image_path": "0.png"}, "did you mean 'images'?"),
        ({"problem": "q", "answer": "a", "img": "0.png"}, "did you mean 'images'?"),
        ({"problem": "q", "answer": "a", "imgs": ["0.png"]}, "did you mean 'images'?"),
        ({"problem": "q", "answer": "a", "Images": ["0.png"]}, "did you mean 'images'?"),
        ({"question": "q", "answer": "a"}, "unknown key 'question'; did you mean 'problem'?"),
        ({**GOOD, "category": "x"}, "unknown key 'category'; extra keys are passed over with --allow-unknown"),
        ({**GOOD, "images": ["0.png", None]}, "image 2 is null"),
        ({**GOOD, "images": [""]}, 'image 1 is ""'),
        ({**GOOD, "images": [["0.png"]]}, "image 1 is ["),
        ({**GOOD, "images": [], "problem": "<image>q"}, "1 <image> markers, but there are 0 images"),
        ({**TWO, "problem": "<image>q"}, "1 <image> markers, but there are 2 images"),
        ({**GOOD, "problem": "<image> and <image>"}, "2 <image> markers, but there are 1 images"),
        ({**GOOD, "prompt_with_hint": "<image><image>q"}, "the prompt_with_hint has 2 <image> markers"),
        ({**GOOD, "answer": "<image>"}, "the answer holds the marker"),
        ({**GOOD, "images": ["absent.png"]}, "no such image"),
        ({**GOOD, "problem": "half \ud83d"}, "'problem' holds half of a character"),
        ({**GOOD, "answer": "half \udc00"}, "'answer' holds half of a character"),
        ({**GOOD, "images": ["half\ud83d.png"]}, "'images' holds half of a character"),
        ({**GOOD, "answer": float("inf")}, "must be a text or a number, found float: inf"),
        ({**GOOD, "answer": float("-inf")}, "must be a text or a number, found float: -inf"),
        ({**GOOD, "answer": float("nan")}, "empty answer"),
        ({**GOOD, "problem": " "}, "empty question"),
    ],
)
def test_a_bad_row_is_one_to_every_reader(folder, row, reason):
    assert reason in bad_for(row, folder)
    (good, bad) = scan_problems(folder / "p.jsonl")
    assert (good.id, bad.id) == ("good", "bad")
    if "no such image" not in reason:
        assert reason in bad.reason, "hints and solutions do not open images before they ask"


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({**GOOD, "images": ["thin.png"]}, "the processor refuses it (absolute aspect ratio must be smaller than 200"),
        ({**GOOD, "problem": "see <|image_pad|>"}, "the question holds the special token <|image_pad|>"),
        ({**GOOD, "problem": "end <|im_end|>"}, "the question holds the special token <|im_end|>"),
        ({**GOOD, "answer": "<|im_end|>"}, "the answer holds the special token <|im_end|>"),
        ({**GOOD, "prompt_with_hint": "q <|im_start|>"}, "the prompt_with_hint holds the special token <|im_start|>"),
    ],
)
def test_what_the_processor_refuses_is_a_bad_row(folder, processor, row, reason):
    Image.new("RGB", (16, 4000), "red").save(folder / "thin.png")
    assert reason in bad_for(row, folder, processor)


def test_whatever_a_processor_raises_names_the_row(folder, processor):
    class Refuses:
        tokenizer, image_processor = processor.tokenizer, processor.image_processor
        apply_chat_template = staticmethod(processor.apply_chat_template)

        def __call__(self, **inputs):
            raise KeyError("of its own")

    problems = read_problems(written(folder, GOOD))
    assert [row.reason for row in find_bad_rows(problems, processor=Refuses()).bad] == [
        "the processor refuses it ('of its own')"
    ]


def test_special_tokens_in_a_hint_or_a_solution_are_found(folder, processor):
    problems = read_problems(written(folder, GOOD))
    hint = {"good": Hint("look <|im_end|>", "r")}
    assert "the hint holds" in find_bad_rows(problems, processor=processor, hints=hint).bad[0].reason
    told = {"good": "<think>so</think> <|im_end|>"}
    assert "the solution holds" in find_bad_rows(problems, processor=processor, solutions=told).bad[0].reason
    assert not find_bad_rows(problems, processor=processor, solutions={"good": "<think>so</think>red"}).bad


def test_extra_keys_are_passed_over_on_request_but_never_an_image(folder):
    path = written(
        folder, {**GOOD, "category": "x", "image_width": 3}, {**GOOD, "id": "2", "images": [], "img": "0.png"}
    )
    read = read_rows(path, Reading(allow_unknown=True))
    assert [p.id for p in read.problems] == ["good"]
    assert "unknown key 'img'" in read.bad[0].reason


def test_keys_of_other_names_are_read_as_said(folder):
    path = written(folder, {"uid": 1, "image": ["0.png"], "question": "q", "label": 3})
    named = {"id": "uid", "images": "image", "problem": "question", "answer": "label"}
    (problem,) = read_problems(path, Reading(named))
    assert (problem.id, problem.problem, problem.answer, len(problem.images)) == ("1", "q", "3", 1)
    with pytest.raises(ValueError, match="'question' is no field of a problem"):
        Reading({"question": "problem"})


def test_an_answer_in_a_box_is_taken_out_of_it():
    assert unboxed("\\boxed{17^{\\circ}}") == "17^{\\circ}"
    assert unboxed(" \\boxed{3} ") == "3"
    for kept in ("\\boxed{1} or \\boxed{2}", "3", "x = \\boxed{3}"):
        assert unboxed(kept) == kept


def test_one_of_several_images_is_named_by_its_number(folder):
    problem = Problem("1", (str(folder / "0.png"), str(folder / "absent.png")), "q", "a")
    assert opened(problem)[1].startswith("image 2: ")


@pytest.mark.parametrize(
    ("text", "placed"),
    [
        ("<image>\nq", "q"), ("<image><image> q", "q"), ("<image>\n<image>\nq", "q"), ("q", "q"),
        (IN_PLACE, IN_PLACE), ("q <image>", "q <image>"), ("<image> a <image> b", "<image> a <image> b"),
    ],
)  # fmt: skip
def test_only_markers_in_front_of_all_text_are_left_out(text, placed):
    assert placed_text(text) == placed


def shown(parts):
    return [part["type"] if part["type"] == "image" else part["text"] for part in parts]


def test_images_stay_where_the_text_puts_them(folder):
    (problem,) = read_problems(written(folder, {**TWO, "problem": IN_PLACE}))
    expected = ["First: ", "image", " Second: ", "image", " which is red?"]
    row = rl_dataset([problem], {"good": Hint("l", "r")}, instruction="")[0]
    (policy,) = attach_images(row["prompt"], row["images"])
    assert shown(policy["content"]) == expected
    assert [part["image"].getpixel((0, 0)) for part in policy["content"] if part["type"] == "image"] == [
        (255, 0, 0),
        (0, 128, 0),
    ]
    (teacher,) = attach_images(hinted_prompt(row), row["images"])
    assert shown(teacher["content"]) == [*expected[:4], " which is red?\n\nHint. Look: l\nReason: r"]
    (asked,) = chat_messages(prompt_parts(problem, "Think."))
    assert shown(asked["content"]) == [*expected[:4], " which is red?\n\nThink."]
    tuned = sft_dataset([(problem.images, question_text(problem, ""), "x")])[0]
    assert shown(tuned["prompt"][0]["content"]) == expected
    _, hints = hint_messages(problem, system_prompt())
    assert hints.in_place
    assert IN_PLACE in hints.text
    assert hinted_question(problem, Hint("l", "r")).startswith(IN_PLACE)
    write_data(folder / "out.parquet", [problem])
    (back,) = read_problems(folder / "out.parquet")
    assert back.problem == IN_PLACE


def test_rows_given_to_the_trainer_are_read_as_models_read_them():
    image = Image.new("LA", (2, 2), (0, 0))
    row = readable_row({"prompt": [{"role": "user", "content": "a <image> b"}], "images": [image], "answer": 1})
    assert shown(row["prompt"][0]["content"]) == ["a ", "image", " b"]
    assert row["images"][0].getpixel((0, 0)) == (255, 255, 255)
    assert row["answer"] == 1
    for prompt in ("plain <image>", [{"role": "user", "content": "no marker"}]):
        assert readable_row({"prompt": prompt, "images": [image]})["prompt"] == prompt
    with pytest.raises(ValueError, match=r"row 7: the prompt has places for 1 images .* but there are 0"):
        readable_row({"id": 7, "prompt": [{"role": "user", "content": "a <image> b"}], "images": []})
    with pytest.raises(ValueError, match="row 7: one of its images is null"):
        readable_row({"id": 7, "prompt": "q", "images": [None]})
