"""easy-VQA, the generated scenes, parquet in the public schemas, and the checks before training."""

import dataclasses
import io

import datasets
import pytest
from PIL import Image
from typer.testing import CliRunner

from ptdpo import cli
from ptdpo.config import DataSettings
from ptdpo.data.checks import BadRow, find_bad_rows, keep_good, prompt_length
from ptdpo.data.dataset import rl_dataset, sft_dataset
from ptdpo.data.easy_vqa import load_easy_vqa, tiles_by_colour
from ptdpo.data.files import write_hints, write_problems, write_solutions
from ptdpo.data.images import open_image
from ptdpo.data.load import load_data
from ptdpo.data.mosaic import NAMES, REGIONS, Rule, hidden_rules, make_scenes, solution_text, tile_pool
from ptdpo.data.parquet import hub_table
from ptdpo.data.prompts import attach_images, conversation, question_text, ready_made_hint_text
from ptdpo.data.scan import read_problems, scan_problems
from ptdpo.records import Hint, Problem, Solution
from ptdpo.rewards import grade


def test_easy_vqa_is_complete():
    train, test = load_easy_vqa("train"), load_easy_vqa("test")
    assert (len(train), len(test)) == (38_575, 9_673)
    assert train[0].problem == "what is the blue shape?"
    assert train[0].answer == "rectangle"
    assert open_image(train[0].images[0]).size == (64, 64)
    assert len({p.id for p in train + test}) == len(train) + len(test)


def test_easy_vqa_draws_are_reproducible():
    assert load_easy_vqa("test", 10, seed=1) == load_easy_vqa("test", 10, seed=1)
    assert load_easy_vqa("test", 10, seed=1) != load_easy_vqa("test", 10, seed=2)
    with pytest.raises(ValueError, match="validation"):
        load_easy_vqa("validation")


def test_colours_read_off_the_questions_are_those_of_the_image():
    for colour, rgb in (("red", 0), ("blue", 2)):
        pixels = open_image(tiles_by_colour("train")[colour][0]).getcolors(5000)
        strongest = max(pixels, key=lambda p: p[1][rgb] - max(p[1][c] for c in range(3) if c != rgb))[1]
        assert strongest[rgb] > 200


def test_splits_share_no_object():
    pools = [set().union(*map(set, tile_pool(split).values())) for split in ("train", "validation", "test")]
    assert all(pools)
    assert not pools[0] & pools[1]
    assert not (pools[0] | pools[1]) & pools[2]
    with pytest.raises(ValueError, match="holdout"):
        tile_pool("holdout")


def test_scores_by_hand():
    cells = ["red", "blue", "red", "green", "yellow", "green", "blue", "blue", "blue"]
    rule = Rule("top row", 4)
    assert rule.score(cells) == 4 + 3 + 2 + 3
    response = solution_text("alpha", rule, cells)
    expected = "<think>alpha: top row, begin 4. 1 red 3 = 7, 2 blue 2 = 9, 3 red 3 = 12</think>\n\\boxed{12}"
    assert response == expected
    assert grade(response, "12").accuracy == grade(response, "12").format == 1.0
    assert Rule("left column", 1).score(cells) == 1 + 3 + 1 + 2


def test_hidden_rules_are_reproducible_and_distinct():
    assert hidden_rules(3) == hidden_rules(3)
    for seed in range(20):
        rules = hidden_rules(seed)
        assert set(rules) == set(NAMES)
        assert len({rule.region for rule in rules.values()}) == len(NAMES)
        assert len({rule.beginning for rule in rules.values()}) == len(NAMES)
        assert {rule.region for rule in rules.values()} <= set(REGIONS)


def test_scenes_are_reproducible_and_their_hints_hold_no_answer(tmp_path):
    rules = hidden_rules(0)
    assignments = [(name, rules[name]) for name in NAMES]
    first = make_scenes(tmp_path / "a", "test", assignments, seed=5)
    second = make_scenes(tmp_path / "b", "test", assignments, seed=5)
    for one, other in zip(first, second, strict=True):
        assert one.solution == other.solution
        assert open_image(one.problem.images[0]).tobytes() == open_image(other.problem.images[0]).tobytes()
        assert one.name in one.problem.problem
        assert one.rule.region not in one.problem.problem, "the question must not state the rule"
        assert one.rule.score(one.cells) == int(one.problem.answer)


def png(colour="red"):
    out = io.BytesIO()
    Image.new("RGB", (32, 32), colour).save(out, "PNG")
    return out.getvalue()


def parquet(path, **columns):
    path.parent.mkdir(exist_ok=True)
    rows = datasets.Dataset.from_dict(
        {"images": [[{"bytes": png(), "path": None}], []], "problem": ["<image>\nhow many?", "why?"],
         "answer": ["3", "x"], **columns}
    )  # fmt: skip
    rows = rows.cast_column("images", datasets.List(datasets.Image()))
    rows.to_parquet(path)
    return path


def test_parquet_in_the_schema_of_virl39k(tmp_path):
    path = parquet(tmp_path / "train.parquet", prompt_with_hint=["<image>\nhow many? Hint: look left", ""])
    first, second = read_problems(path)
    assert question_text(first, "") == "how many?", "the image marker is structure, not text"
    assert open_image(first.images[0]).getpixel((0, 0)) == (255, 0, 0)
    assert ready_made_hint_text(first, "Think.") == "how many? Hint: look left\n\nThink."
    assert ready_made_hint_text(second) is None
    assert second.images == ()
    in_folder = read_problems(tmp_path)
    assert [p.images for p in in_folder] == [first.images, ()], "a folder of parquet files"


def test_parquet_with_other_columns_is_refused(tmp_path):
    path = tmp_path / "x.parquet"
    datasets.Dataset.from_dict({"question": ["a"], "answer": ["b"]}).to_parquet(path)
    with pytest.raises(ValueError, match=r"'images' is missing \(found: question, answer\)"):
        read_problems(path)
    with pytest.raises(ValueError, match="no parquet file"):
        read_problems(tmp_path / "absent")


def test_parquet_ids_are_unique_and_made_up_ones_always_are(tmp_path):
    path = parquet(tmp_path / "x.parquet", id=["a", "a"])
    with pytest.raises(ValueError, match=r"x\.parquet: a: the id 'a' is used twice"):
        read_problems(path)
    first, second = scan_problems(path)
    assert (first.id, second) == (
        "a",
        BadRow("a", "the id 'a' is used twice, by rows 1 and 2, counted from 1; the first row with it is taken"),
    )
    parquet(tmp_path / "two" / "x.parquet")
    parquet(tmp_path / "two" / "y.parquet")
    assert len({p.id for p in read_problems(tmp_path / "two")}) == 4


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"answer": [["3"], ["x"]]}, r"x\.parquet, row 0: the field 'answer' must be a text or a number, found list"),
        ({"id": [True, False]}, "row 0: the field 'id'.* found bool"),
        ({"prompt_with_hint": [["a"], ["b"]]}, "row 0: the field 'prompt_with_hint'"),
    ],
)
def test_parquet_cells_that_are_neither_text_nor_number_are_refused(tmp_path, columns, message):
    path = parquet(tmp_path / "x.parquet", **columns)
    with pytest.raises(ValueError, match=message):
        read_problems(path)
    assert [type(row) for row in scan_problems(path)] == [BadRow, BadRow]


def test_a_missing_cell_is_empty_and_numbers_become_text(tmp_path):
    path = parquet(tmp_path / "x.parquet", answer=[None, 4], id=[7, 8])
    assert [(p.id, p.answer) for p in read_problems(path)] == [("7", ""), ("8", "4")]


def test_checking_a_parquet_file_leaves_nothing_behind(tmp_path):
    path = parquet(tmp_path / "x.parquet", prompt_with_hint=["h", ""])
    shown = CliRunner().invoke(cli.app, ["data", "check", str(path)])
    assert (shown.exit_code, "2 problems, 1 with a hint, all usable" in shown.output) == (0, True)
    assert [file.name for file in tmp_path.iterdir()] == ["x.parquet"]


def test_a_broken_parquet_file_is_named(tmp_path):
    path = tmp_path / "bad.parquet"
    path.write_bytes(b"PAR1 nothing")
    with pytest.raises(ValueError, match=r"bad\.parquet: not readable as parquet"):
        read_problems(path)
    with pytest.raises(ValueError, match=r"bad\.parquet: not readable as parquet"):
        list(scan_problems(path))


def test_a_hub_data_set_that_cannot_be_reached_is_one_clear_line(tmp_path):
    with pytest.raises(ValueError, match="'nobody/nothing', split 'train'"):
        hub_table("nobody/nothing", "train")


@pytest.fixture
def mixed(tmp_path):
    Image.new("RGB", (48, 48)).save(tmp_path / "good.png")
    (tmp_path / "broken.png").write_bytes(png()[:40])
    (tmp_path / "text.png").write_text("no image")
    image = str(tmp_path / "good.png")
    return [
        Problem("good", (image,), "q", "a"),
        Problem("missing", (str(tmp_path / "absent.png"),), "q", "a"),
        Problem("broken", (str(tmp_path / "broken.png"),), "q", "a"),
        Problem("text", (image, str(tmp_path / "text.png")), "q", "a"),
        Problem("no answer", (image,), "q", "  "),
        Problem("no question", (image,), "", "a"),
        Problem("long", (image,), "q " * 200, "a"),
    ]


def test_every_bad_row_is_found_and_named(mixed, processor):
    checked = find_bad_rows(mixed, processor=processor, max_prompt_tokens=60, instruction="")
    assert [p.id for p in checked.good] == ["good"]
    reasons = {row.id: row.reason for row in checked.bad}
    assert set(reasons) == {"missing", "broken", "text", "no answer", "no question", "long"}
    assert "no such image" in reasons["missing"]
    assert "not a readable image" in reasons["broken"]
    assert "more than 60" in reasons["long"]


def test_bad_rows_are_refused_or_dropped_with_a_report(mixed):
    checked = find_bad_rows(mixed)
    with pytest.raises(ValueError, match=r"5 bad rows: missing .*data\.bad_rows=drop"):
        keep_good(checked, "refuse", "set")
    good, report = keep_good(checked, "drop", "set")
    assert [p.id for p in good] == ["good", "long"]
    assert "no answer (empty answer)" in report
    with pytest.raises(ValueError, match="no usable row"):
        keep_good(find_bad_rows(mixed[1:3]), "drop", "set")


def test_prompt_length_counts_visual_tokens_and_the_hint(mixed, processor):
    image = open_image(mixed[0].images[0])
    assert prompt_length(processor, "q", [image]) - prompt_length(processor, "q", []) == 9 + 2
    hint = {"good": Hint("look " * 30, "reason " * 30)}
    checked = find_bad_rows(mixed[:1], processor=processor, max_prompt_tokens=60, hints=hint, instruction="")
    assert [row.id for row in checked.bad] == ["good"]


@pytest.mark.parametrize(
    ("context", "fields", "found"),
    [
        ("hint", {"prompt_with_hint": "word " * 200}, "prompt with its hint of"),
        ("solution", {"solution": "word " * 200}, "prompt with its solution of"),
        ("answer", {"answer": "word " * 200}, "prompt with its answer of"),
        ("solution", {"prompt_with_hint": "word " * 200, "solution": "b"}, "prompt with its hint of"),
        ("hint", {"problem": "word " * 200, "prompt_with_hint": "q h"}, "prompt of"),
        ("hint", {"solution": "word " * 200}, None),
        ("hint", {"answer": "word " * 200}, None),
        ("question", {"solution": "word " * 200}, None),
        ("solution", {}, None),
    ],
)
def test_what_the_teacher_reads_counts_as_part_of_the_prompt(mixed, processor, context, fields, found):
    told = dict(fields)
    solutions = {"good": told.pop("solution")} if "solution" in told else {}
    problem = dataclasses.replace(mixed[0], **told)
    checked = find_bad_rows(
        [problem], processor=processor, max_prompt_tokens=100, solutions=solutions, context=context, instruction="i"
    )
    reasons = [row.reason for row in checked.bad]
    assert bool(reasons) == bool(found)
    if found:
        assert reasons[0].startswith(found)
        assert "more than 100" in reasons[0]


def test_load_data_counts_the_context_of_the_preset(tmp_path, mixed, processor):
    write_problems(tmp_path / "p.jsonl", mixed[:1])
    write_solutions(tmp_path / "s.jsonl", [Solution("good", "word " * 200)])
    settings = DataSettings(
        "jsonl", str(tmp_path / "p.jsonl"), solutions=str(tmp_path / "s.jsonl"), max_prompt_tokens=100, instruction=""
    )
    assert len(load_data(settings, processor=processor).problems) == 1
    with pytest.raises(ValueError, match="prompt with its solution"):
        load_data(settings, processor=processor, context="solution")


def test_load_data_from_jsonl_with_hints(tmp_path, scenes):
    write_problems(tmp_path / "p.jsonl", [s.problem for s in scenes])
    write_hints(tmp_path / "h.jsonl", {s.problem.id: s.hint for s in scenes[:4]}, "m")
    settings = DataSettings("jsonl", str(tmp_path / "p.jsonl"), hints=str(tmp_path / "h.jsonl"))
    loaded = load_data(settings)
    assert (len(loaded.problems), loaded.hinted, loaded.report) == (16, 4, "")
    drawn = load_data(DataSettings("jsonl", settings.path, limit=5))
    assert len(drawn.problems) == 5


def test_hints_of_other_problems_are_refused(tmp_path, scenes):
    write_problems(tmp_path / "p.jsonl", [s.problem for s in scenes])
    write_hints(tmp_path / "h.jsonl", {"other": scenes[0].hint}, "m")
    settings = DataSettings("jsonl", str(tmp_path / "p.jsonl"), hints=str(tmp_path / "h.jsonl"))
    with pytest.raises(ValueError, match="none of its 1 hints"):
        load_data(settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [(DataSettings("jsonl"), "data.path is empty"), (DataSettings("easy-vqa", limit=0), "data.limit=0")],
)
def test_data_settings_that_make_no_sense(tmp_path, settings, message):
    with pytest.raises(ValueError, match=message):
        load_data(settings)


def test_the_columns_of_the_trainer(scenes):
    rows = rl_dataset([s.problem for s in scenes[:2]], {scenes[0].problem.id: scenes[0].hint}, instruction="Think.")
    assert rows.column_names == [
        "id",
        "prompt",
        "images",
        "answer",
        "hint",
        "prompt_with_hint",
        "hints",
        "solution",
        "feedback",
        "instruction",
    ]
    assert rows[0]["prompt"] == [{"role": "user", "content": f"{scenes[0].problem.problem}\n\nThink."}]
    assert rows[0]["hint"]["look"] == scenes[0].hint.look
    assert rows[0]["images"][0].size == (48, 48)
    assert not (rows[1]["hint"] or {}).get("look")


def test_the_columns_of_supervised_fine_tuning(scenes):
    rows = sft_dataset([(scenes[0].problem.images, "q", "<think>a</think>b")])
    assert rows[0]["prompt"] == conversation("q")
    assert rows[0]["completion"] == [{"role": "assistant", "content": "<think>a</think>b"}]


def test_texts():
    problem = Problem("1", (), "<image>\nhow many?", "3")
    assert question_text(problem, "") == "how many?"
    assert (
        question_text(Problem("1", (), "count <image>\nand <image> add", "3"), "") == "count <image>\nand <image> add"
    )
    assert question_text(problem).startswith("how many?\n\nThink first")
    assert conversation("q", system="s")[0] == {"role": "system", "content": "s"}
    assert attach_images(conversation("q"), [])[0]["content"] == [{"type": "text", "text": "q"}]


def test_problems_without_images_are_refused_or_dropped_where_several_processes_train(tmp_path, scenes):
    problems = [scenes[0].problem, dataclasses.replace(scenes[1].problem, id="bare", images=())]
    write_problems(tmp_path / "p.jsonl", problems)
    settings = DataSettings(path=str(tmp_path / "p.jsonl"))
    assert len(load_data(settings).problems) == 2
    with pytest.raises(ValueError, match=r"1 of 2 problems have no image .*'bare'.*data.without_image=drop"):
        load_data(settings, processes=2)
    kept = load_data(dataclasses.replace(settings, without_image="drop"), processes=2)
    assert [problem.id for problem in kept.problems] == [problems[0].id]
    assert kept.report.startswith("1 of 2 problems have no image (the first is 'bare')")
    alone = load_data(dataclasses.replace(settings, without_image="drop"))
    assert len(alone.problems) == 2, "one process trains on both"
    write_problems(tmp_path / "p.jsonl", problems[1:])
    assert len(load_data(settings, processes=2).problems) == 1, "all alike"
