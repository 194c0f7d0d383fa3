"""The nine benchmarks on small copies in the schema of the public files, and what is refused."""

import zipfile
from dataclasses import replace
from pathlib import Path

import datasets
import pytest

from ptdpo.data.images import open_image
from ptdpo.evaluate import benchmarks as registry
from ptdpo.evaluate import source as source_module
from ptdpo.evaluate.benchmark import Benchmark, Hub
from ptdpo.evaluate.benchmarks import BENCHMARKS
from ptdpo.evaluate.loading import declare, load_benchmark
from ptdpo.evaluate.prompts import chat_messages, prompt_parts
from ptdpo.evaluate.run import DataChoice
from ptdpo.records import Problem
from tests.evaluate.fixtures import NINE, PROMPT, WITHOUT_ID, png, rows_of, write_split

PUBLIC = {
    "mmk12": ("PAPO_MMK12", 2000),
    "geo3k": ("hiyouga_geometry3k", 601),
    "mathverse": ("AI4Math_MathVerse", 2180),
    "mathvista": ("AI4Math_MathVista", 1000),
    "we-math": ("We_Math", 1740),
    "mmmu-pro": ("MMMU_MMMU_Pro", 1730),
    "counting": ("BUAADreamer_clevr_count_70k", 200),
    "mathverse-v": ("AI4Math_MathVerse_vision_dependent", 1308),
    "logicvista": ("lscpku_LogicVista", 447),
}


def load(name, tmp_path, path=None, **settings):
    return load_benchmark(BENCHMARKS[name], path=path, cache=tmp_path / "cache", **settings)


def test_the_nine_are_the_public_splits_in_the_order_of_the_table():
    assert {name: (BENCHMARKS[name].source.split, BENCHMARKS[name].rows) for name in NINE} == PUBLIC
    assert list(PUBLIC) == NINE
    assert all(BENCHMARKS[name].source.repository == "PAPO-Galaxy/PAPO_eval" for name in NINE)
    assert all(BENCHMARKS[name].baked for name in NINE)


@pytest.mark.parametrize("name", NINE)
def test_a_local_copy_with_its_zip_file_is_read_as_it_is(tmp_path, name):
    loaded = load(name, tmp_path, write_split(tmp_path / "copy", name))
    split = PUBLIC[name][0]
    first, second = loaded.problems[:2]
    assert len(loaded.problems) == 4
    assert first.id == (f"{name}-0" if name in WITHOUT_ID else f"{split}_0")
    assert first.problem == PROMPT.format(question=f"Question 0 of {name}?"), "the prompt is used as it is"
    assert (first.answer, second.answer) == ("0", "B")
    assert Path(first.images[0]).read_bytes() == png((0, 90, 120))
    assert Path(second.images[0]).read_bytes() == png((40, 90, 120))
    parts = prompt_parts(first, loaded.benchmark.instruction)
    assert parts == [Path(first.images[0]), first.problem.removeprefix("<image>")]
    assert loaded.notes == [f"4 rows, the public source has {PUBLIC[name][1]}"]


@pytest.mark.parametrize("layout", ["packed", "unpacked", "embedded"])
def test_where_the_images_lie_does_not_change_the_data(tmp_path, layout):
    folder = write_split(tmp_path / "copy", "geo3k", packed=layout == "packed", embedded=layout == "embedded")
    loaded = load("geo3k", tmp_path, folder)
    reference = load("geo3k", tmp_path, write_split(tmp_path / "reference", "geo3k"))
    assert loaded.fingerprint == reference.fingerprint
    assert all(open_image(path).size == (28, 28) for problem in loaded.problems for path in problem.images)


def test_the_fingerprint_sees_questions_answers_and_pixels(tmp_path):
    rows = rows_of("geo3k")
    prints = {load("geo3k", tmp_path, write_split(tmp_path / "a", "geo3k", rows)).fingerprint}
    changed = rows_of("geo3k")
    changed[1]["messages"][1]["content"] = "C"
    prints.add(load("geo3k", tmp_path, write_split(tmp_path / "b", "geo3k", changed)).fingerprint)
    changed = rows_of("geo3k")
    changed[1]["messages"][0]["content"] += " "
    prints.add(load("geo3k", tmp_path, write_split(tmp_path / "c", "geo3k", changed)).fingerprint)
    folder = write_split(tmp_path / "d", "geo3k", packed=False)
    next((folder / "data" / "images").rglob("*_1_0.png")).write_bytes(png((1, 2, 3)))
    prints.add(load("geo3k", tmp_path, folder).fingerprint)
    assert len(prints) == 4


def test_several_images_stand_where_their_markers_are(tmp_path, processor):
    rows = rows_of("mmmu-pro", 1)
    rows[0]["messages"][0]["content"] = "Compare <image> with <image>.\nWhich?"
    rows[0]["images"] = ["./data/images/x/a.png", "./data/images/x/b.png"]
    loaded = load("mmmu-pro", tmp_path, write_split(tmp_path / "copy", "mmmu-pro", rows))
    a, b = map(Path, loaded.problems[0].images)
    parts = prompt_parts(loaded.problems[0], None)
    assert parts == ["Compare ", a, " with ", b, ".\nWhich?"]
    shown = processor.apply_chat_template(chat_messages(parts), tokenize=False, add_generation_prompt=True)
    picture = "<|vision_start|><|image_pad|><|vision_end|>"
    assert f"user\nCompare {picture} with {picture}.\nWhich?<|im_end|>" in shown


def test_an_instruction_follows_where_the_prompt_is_not_in_the_rows():
    problem = Problem("1", ("a.png",), "<image>how many?", "3")
    assert prompt_parts(problem, "Think.") == [Path("a.png"), "how many?\n\nThink."]
    assert prompt_parts(problem, "") == [Path("a.png"), "how many?"]
    assert prompt_parts(Problem("1", ("a.png",), "how many?", "3"), None) == [Path("a.png"), "how many?"]


def test_a_boxed_label_gives_what_is_in_the_box(tmp_path):
    rows = rows_of("geo3k", 1)
    rows[0]["messages"][1]["content"] = "so \\boxed{\\frac{1}{2}}"
    assert load("geo3k", tmp_path, write_split(tmp_path / "c", "geo3k", rows)).problems[0].answer == "\\frac{1}{2}"


def test_the_splits_of_mathverse_are_told_apart_in_one_folder(tmp_path):
    write_split(tmp_path / "copy", "mathverse-v", rows_of("mathverse-v", 2))
    write_split(tmp_path / "copy", "mathverse", rows_of("mathverse", 3))
    assert len(load("mathverse", tmp_path, tmp_path / "copy").problems) == 3
    assert len(load("mathverse-v", tmp_path, tmp_path / "copy").problems) == 2


def test_ids_used_twice_are_made_distinct(tmp_path):
    rows = rows_of("geo3k")
    rows[2]["id"] = rows[0]["id"]
    keys = [problem.id for problem in load("geo3k", tmp_path, write_split(tmp_path / "c", "geo3k", rows)).problems]
    assert keys == [f"{rows[0]['id']}-row-0", rows[1]["id"], f"{rows[0]['id']}-row-2", rows[3]["id"]]


def test_a_missing_split_names_the_files_that_are_there(tmp_path):
    folder = write_split(tmp_path / "copy", "mathverse-v")
    with pytest.raises(ValueError, match=r"no parquet file of the split 'AI4Math_MathVerse' .*_dependent-00000"):
        load("mathverse", tmp_path, folder)
    with pytest.raises(ValueError, match="absent: no such file or folder"):
        load("mathverse", tmp_path, tmp_path / "absent")


def test_a_renamed_column_is_named(tmp_path):
    folder = write_split(tmp_path / "copy", "geo3k")
    (file,) = folder.rglob("*.parquet")
    datasets.Dataset.from_parquet(str(file)).rename_column("messages", "conversations").to_parquet(str(file))
    with pytest.raises(ValueError, match=r"the column 'messages' is missing \(found: conversations, images, id\)"):
        load("geo3k", tmp_path, folder)


def test_bad_rows_are_counted_and_listed_or_left_out(tmp_path):
    rows = rows_of("geo3k", 5)
    rows[0]["messages"] = rows[0]["messages"][:1]
    rows[1]["messages"][1]["content"] = "  "
    rows[2]["messages"][0]["content"] = "<image> and <image>?"
    folder = write_split(tmp_path / "copy", "geo3k", rows, packed=False)
    next((folder / "data" / "images").rglob("*_3_0.png")).unlink()
    with pytest.raises(ValueError, match=r"geo3k .*: 4 bad rows: ") as caught:
        load("geo3k", tmp_path, folder)
    told = str(caught.value)
    assert told.count("empty answer") == 2
    assert "the question has 2 <image> markers, but there are 1 images" in told
    assert "hiyouga_geometry3k_3 (data/images/hiyouga_geometry3k/hiyouga_geometry3k_3_0.png: no such image)" in told
    assert "--bad-rows drop" in told
    loaded = load("geo3k", tmp_path, folder, bad_rows="drop")
    assert [problem.id for problem in loaded.problems] == ["hiyouga_geometry3k_4"]
    assert len(loaded.left_out) == 4
    assert "4 bad rows left out" in loaded.notes


def test_a_benchmark_may_leave_rows_out_and_says_why(tmp_path):
    free_form = replace(BENCHMARKS["geo3k"], leave_out=lambda row: "even" if "_0" in row["id"] else None)
    loaded = load_benchmark(free_form, path=write_split(tmp_path / "copy", "geo3k"), cache=tmp_path / "cache")
    assert [(row.id, row.reason) for row in loaded.left_out] == [("hiyouga_geometry3k_0", "even")]
    assert (len(loaded.problems), loaded.found) == (3, 4)
    assert "1 rows left out as declared" in loaded.notes


def test_a_limit_draws_the_same_questions_each_time(tmp_path):
    folder = write_split(tmp_path / "copy", "geo3k", rows_of("geo3k", 20))
    first, again = (load("geo3k", tmp_path, folder, limit=5) for _ in range(2))
    assert [p.id for p in first.problems] == [p.id for p in again.problems]
    assert len(first.problems) == 5
    assert "5 of 20 questions, drawn at random" in first.notes
    with pytest.raises(ValueError, match="limit=0: must be at least 1"):
        DataChoice(["geo3k"], {}, limit=0)


def test_the_hub_path_reads_the_split_and_unpacks_its_archive(tmp_path, monkeypatch):
    """``load_dataset`` reads a folder laid out like the repository; only the download of the zip file is replaced."""
    folder = write_split(tmp_path / "repository", "counting")
    asked = []
    monkeypatch.setattr(
        source_module, "hf_hub_download", lambda *args, **kwargs: asked.append((args, kwargs)) or str(folder / args[1])
    )
    benchmark = replace(BENCHMARKS["counting"], source=replace(BENCHMARKS["counting"].source, repository=str(folder)))
    loaded = load_benchmark(benchmark, cache=tmp_path / "cache")
    assert loaded.fingerprint == load("counting", tmp_path / "other", folder).fingerprint
    assert asked == [((str(folder), "BUAADreamer_clevr_count_70k_images.zip"), {"repo_type": "dataset"})]
    load_benchmark(benchmark, cache=tmp_path / "cache")
    assert len(asked) == 1, "unpacked once"
    missing = replace(benchmark, source=Hub(str(folder), "gone"))
    with pytest.raises(ValueError, match=r"split 'gone', cannot be loaded.*gone"):
        load_benchmark(missing, cache=tmp_path / "cache")


def test_without_a_network_the_hub_is_refused_in_one_line(tmp_path, monkeypatch):
    def unreachable(*_, **__):
        raise ConnectionError("Couldn't reach the Hub")

    monkeypatch.setattr(datasets, "load_dataset", unreachable)
    with pytest.raises(ValueError, match=r"PAPO_eval', split 'We_Math', cannot be loaded: Couldn't.*--data NAME=PATH"):
        load("we-math", tmp_path)


def test_a_broken_archive_is_named(tmp_path):
    folder = write_split(tmp_path / "copy", "geo3k")
    archive = folder / "hiyouga_geometry3k_images.zip"
    archive.write_bytes(archive.read_bytes()[:100])
    with pytest.raises(ValueError, match=r"hiyouga_geometry3k_images.zip: cannot be unpacked"):
        load("geo3k", tmp_path, folder)


def test_an_archive_cannot_write_outside_the_cache(tmp_path):
    folder = write_split(tmp_path / "copy", "geo3k")
    with zipfile.ZipFile(folder / "hiyouga_geometry3k_images.zip", "a") as archive:
        archive.writestr("../../outside.png", png((0, 0, 0)))
    load("geo3k", tmp_path, folder)
    assert not list(tmp_path.glob("outside.png"))


def test_a_file_that_is_no_parquet_is_named(tmp_path):
    (tmp_path / "x.parquet").write_text("no parquet")
    with pytest.raises(ValueError, match=r"x.parquet: not readable as parquet"):
        load("geo3k", tmp_path, tmp_path / "x.parquet")


def test_files_of_ones_own_in_three_schemas(tmp_path, scenes):
    from ptdpo.data.files import write_problems

    write_problems(tmp_path / "mine.jsonl", [scene.problem for scene in scenes[:3]])
    loaded = load_benchmark(declare("mine", tmp_path / "mine.jsonl"), path=tmp_path / "mine.jsonl", cache=tmp_path)
    assert [problem.answer for problem in loaded.problems] == [scene.problem.answer for scene in scenes[:3]]
    rows = [{"problem": "<image>q?", "answer": "3", "images": [{"bytes": png((9, 9, 9)), "path": None}]}]
    datasets.Dataset.from_list(rows).to_parquet(str(tmp_path / "virl.parquet"))
    loaded = load_benchmark(declare("virl", tmp_path / "virl.parquet"), path=tmp_path / "virl.parquet", cache=tmp_path)
    assert (loaded.problems[0].answer, loaded.benchmark.baked) == ("3", False)
    folder = write_split(tmp_path / "own", "geo3k")
    loaded = load_benchmark(declare("own", folder), path=folder, cache=tmp_path)
    assert loaded.benchmark.baked, "rows of messages hold their prompt"
    assert len(loaded.problems) == 4


def test_jsonl_cannot_stand_for_a_benchmark_with_its_prompt_in_the_rows(tmp_path):
    with pytest.raises(ValueError, match="has its prompt in the rows"):
        load("geo3k", tmp_path, tmp_path / "p.jsonl")


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(ValueError, match=r"unknown benchmark 'geo4k': choose from mmk12, geo3k.*--data geo4k=PATH"):
        declare("geo4k", None)


def test_a_new_benchmark_is_one_file(tmp_path, monkeypatch):
    (tmp_path / "brand_new.py").write_text(
        '"""One more."""\n'
        "from ptdpo.evaluate.benchmark import Benchmark, Local\n"
        "from ptdpo.records import Problem\n"
        'BENCHMARK = Benchmark("brand-new", "Brand new", "other",\n'
        '    Local("made up", lambda _: [Problem("1", (), "1 + 1?", "2")]), rows=1)\n'
    )
    monkeypatch.setattr(registry, "__path__", [*registry.__path__, str(tmp_path)])
    found = registry._declared()
    assert list(found)[:9] == NINE
    assert isinstance(found["brand-new"], Benchmark)
    assert load_benchmark(found["brand-new"], cache=tmp_path).problems[0].answer == "2"


def test_easy_vqa_and_the_scenes_are_benchmarks_of_their_own(tmp_path):
    easy = load("easy-vqa", tmp_path)
    assert (len(easy.problems), easy.notes) == (9673, [])
    scenes = load("scenes", tmp_path)
    assert (len(scenes.problems), scenes.benchmark.instruction, scenes.notes) == (400, "", [])
    assert scenes.fingerprint == load("scenes", tmp_path / "elsewhere").fingerprint
