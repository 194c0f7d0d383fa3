"""What a dry run finds before weights are loaded."""

import pytest
import yaml

from ptdpo.config import read_recipe
from ptdpo.data.files import write_problems, write_solutions
from ptdpo.records import Solution
from ptdpo.train.plan import make_plan
from ptdpo.train.run import train_recipe


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
