"""TRL's own tests of its GRPO trainer, for TRL and for ours in its place: the table of which pass.

``python -m tests.tables.trl_suite CHECKOUT --folder FOLDER [--arm NAME] [-k EXPRESSION]``; CHECKOUT is a work tree of
TRL, of which ``tests`` and ``scripts`` are read. Nothing of it is kept here. The models and data that those tests fetch
from a hub are made in their place (``trl_hub``), under the same names; responses that they spell out as ids of their
own tokenizers are spelt out anew; a test that does not say for how long it trains makes three steps. Only tests that
TRL itself passes count. Reports that lie in FOLDER are read, not made again.
"""

import argparse
import ast
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import transformers

from tests.tables.trl_arms import ARMS
from tests.tables.trl_hub import ORGANIZATION, make_hub

IMPORT = "from trl import GRPOConfig, GRPOTrainer\n"
FILES = ("test_grpo_trainer.py", "testing_utils.py", "testing_constants.py", "conftest.py", "__init__.py")
QUOTED = re.compile(r"""#\s*('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")(.*)$""")
IDS = re.compile(r"^(\s*)\[(\d+(?:, \d+)+)\],(.*)$")
END = "<|im_end|>"
# By which those tests end a text, id by id of Qwen's two tokenizers, and by which they then pad.
MODELS = {151645: "tiny-Qwen3MoeForCausalLM", 248046: "tiny-Qwen3_5ForConditionalGeneration-NoThink"}
PADDING = {151645: 151643, 248046: 248044}


# A checkout of another version asks for optional packages that the installed one does not know.
OLDER_NAMES = """\
import importlib
known = importlib.import_module("trl.import_utils")
for name in ("is_joblib_available", "is_openreward_available", "is_harbor_available", "is_mergekit_available"):
    if not hasattr(known, name):
        setattr(known, name, lambda: False)
"""


def respelt(source, tokenizers):
    """Return the source of the tests with lists of ids by our tokenizers, from the texts in the comments beside them.

    Args:
        source: of the tests.
        tokenizers: the end token that stands for a family in the tests -> its tokenizer here.
    """
    lines, block, text, texts = source.splitlines(), [], None, {}
    for number, line in enumerate(lines):
        quoted, ids = QUOTED.search(line), IDS.match(line)
        if quoted:
            text = ast.literal_eval(quoted[1]) + (END if "+ eos" in quoted[2] else "")
        if ids:
            # A row that stands there a second time may have no comment of its own.
            text = texts.setdefault(ids[2], text)
            block.append((number, ids, text))
            text = None
        elif block and not line.strip().startswith("#"):
            _write(lines, block, tokenizers)
            block = []
    return "\n".join(lines) + "\n"


def _write(lines, block, tokenizers):
    written = [[int(one) for one in match[2].split(", ")] for _, match, _ in block]
    end = next((end for end in tokenizers if any(end in ids for ids in written)), None)
    if end is None:
        return
    tokenizer, padding = tokenizers[end], PADDING[end]
    rows = []
    for ids, (_, _, text) in zip(written, block, strict=True):
        if text is not None:
            rows.append(tokenizer(text, add_special_tokens=False)["input_ids"])
        else:
            known = {end: tokenizer.eos_token_id, padding: tokenizer.pad_token_id}
            # Small ids stand for any token; here they might be special ones.
            rows.append([known.get(one, one + 100) for one in ids])
    width = max(map(len, rows))
    for (number, match, _), ids in zip(block, rows, strict=True):
        lines[number] = f"{match[1]}{[*ids, *[tokenizer.pad_token_id] * (width - len(ids))]},{match[3]}"


def lay_out(checkout, folder):
    """Copy TRL's tests into a folder, with the trainer's import changed and its ids respelt."""
    tests = Path(folder) / "trl_tests"
    tests.mkdir()
    for name in FILES:
        text = (Path(checkout) / "tests" / name).read_text()
        if name == FILES[0]:
            assert text.count(IMPORT) == 1, "the tests import the trainer otherwise than they did"
            text = text.replace(IMPORT, "from tests.tables.trl_arms import GRPOConfig, GRPOTrainer\n")
            home = Path(folder) / ORGANIZATION
            read = transformers.AutoTokenizer.from_pretrained
            text = respelt(text, {end: read(home / name) for end, name in MODELS.items()})
        if name == "testing_utils.py":
            text = OLDER_NAMES + text
        (tests / name).write_text(text)


def run(folder, arm, expression):
    """Return name -> (outcome, first line of what was wrong) of one arm."""
    report = Path(folder) / f"{arm.replace(' ', '_')}.xml"
    if not report.exists():
        _pytest(folder, arm, report, expression)
    cases = ET.parse(report).iter("testcase")
    return {f"{case.get('classname').split('.')[-1]}::{case.get('name')}": _outcome(case) for case in cases}


def _pytest(folder, arm, report, expression):
    here = str(Path(__file__).parents[2])
    environment = {
        **os.environ,
        "PTDPO_ARM": arm,
        "PYTHONPATH": os.pathsep.join([here, f"{here}/src", os.environ.get("PYTHONPATH", "")]),
        "HF_HUB_OFFLINE": "1",
        "TRL_EXPERIMENTAL_SILENCE": "1",
    }
    command = [sys.executable, "-m", "pytest", "trl_tests/test_grpo_trainer.py", "-q", "-p", "no:cacheprovider"]
    command += [
        "-W",
        "ignore",
        f"--junitxml={report}",
        "--rootdir",
        str(folder),
        *(["-k", expression] if expression else []),
    ]
    log = Path(folder) / f"{report.stem}.log"
    with log.open("w") as out:
        subprocess.run(command, cwd=folder, env=environment, stdout=out, stderr=subprocess.STDOUT, check=False)
    if not report.exists():
        raise SystemExit(f"pytest made no report for {arm}:\n" + log.read_text()[-2000:])


def _outcome(case):
    for kind in ("failure", "error", "skipped"):
        found = case.find(kind)
        if found is not None:
            message = (found.get("message") or "").strip().splitlines() or [""]
            return kind, message[0][:200].replace("|", "/")
    return "passed", ""


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkout")
    parser.add_argument("--arm", action="append", choices=ARMS, help="only this one; all")
    parser.add_argument("-k", dest="expression", default="")
    parser.add_argument("--folder", required=True, help="where models, logs and reports are kept")
    given = parser.parse_args(arguments)
    transformers.utils.logging.set_verbosity_error()
    folder = Path(given.folder)
    folder.mkdir(exist_ok=True)
    if not (folder / ORGANIZATION).exists():
        make_hub(folder, given.checkout)
    if not (folder / "trl_tests").exists():
        lay_out(given.checkout, folder)
    show({arm: run(folder, arm, given.expression) for arm in given.arm or ARMS})


def show(outcomes):
    if ARMS[0] not in outcomes:
        return
    passed = [name for name, (kind, _) in outcomes[ARMS[0]].items() if kind == "passed"]
    print(f"| | of {len(passed)} tests that TRL's own trainer passes |\n|---|---|")
    for arm, cases in outcomes.items():
        print(f"| {arm} | {sum(cases.get(name, ('', ''))[0] == 'passed' for name in passed)} |")
    for arm, cases in list(outcomes.items())[1:]:
        for name in passed:
            kind, message = cases.get(name, ("missing", ""))
            if kind != "passed":
                print(f"- {arm}: {name}: {message}")
    for name, (kind, message) in outcomes[ARMS[0]].items():
        if kind != "passed":
            print(f"- TRL itself {kind}: {name}: {message}")


if __name__ == "__main__":
    main()
