"""Everything that decides the numbers of an evaluation, written beside them; two runs are compared by it."""

import json
import typing
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, Literal

from ptdpo.folders import differences, refuse_other, write_json
from ptdpo.rewards import Mode
from ptdpo.values import Amount, Count, Nucleus, Temperature

FILE = "settings.json"
RESPONSES = "responses.jsonl"
EngineName = Literal["transformers", "endpoint"]
UNKNOWN_REVISION = "unknown"


@dataclass(frozen=True, slots=True)
class ModelSettings:
    """Which model answered.

    Attributes:
        name: folder, hub id, or the name that an endpoint serves.
        engine: in this process, or behind an OpenAI-compatible endpoint.
        revision: content hash of a folder, commit of a hub model, or what the user says of an endpoint's.
        dtype: of the weights, where known.
        device: where it ran, where known.
        endpoint: address of the endpoint, without credentials; may change between runs.
    """

    name: str
    engine: EngineName
    revision: str
    dtype: str = ""
    device: str = ""
    endpoint: str = ""


@dataclass(frozen=True, slots=True)
class SamplingSettings:
    """How responses are sampled; the defaults are the paper's, one sample instead of its unstated number.

    ``top_k`` is always 0: the whole vocabulary. ``batch_size`` decides the random streams in process. ``extra`` are
    further fields of an endpoint's request as JSON: servers take settings that are not sent from the model's folder.
    """

    samples: Count = 1
    max_new_tokens: Count = 4096
    temperature: Temperature = 1.0
    top_p: Nucleus = 1.0
    top_k: int = 0
    seed: Amount = 0
    batch_size: Count = 64
    extra: str = ""


@dataclass(frozen=True, slots=True)
class Grading:
    """How responses are graded: the mode of ``ptdpo.rewards.grade_many``, and whether math-verify is asked as well."""

    mode: Mode = "sound"
    second_opinion: bool = False


@dataclass(frozen=True, slots=True)
class BenchmarkSettings:
    """What was asked of one benchmark.

    Attributes:
        origin: data set and split, or file.
        fingerprint: of ids, questions, answers and image contents.
        questions: how many are asked.
        found: rows at the origin.
        left_out: id and reason of each row that is not asked.
        instruction: what follows each question; ``None``: the prompt is in the rows.
        prompt: the first question as the model sees it, ``<image>`` where an image stands.
        notes: what a reader of the numbers should know.
    """

    origin: str
    fingerprint: str
    questions: int
    found: int
    left_out: list[list[str]]
    instruction: str | None
    prompt: str
    notes: list[str]


@dataclass(frozen=True, slots=True)
class RunSettings:
    """The content of ``settings.json``: model, sampling, grading mode, versions, and the data of each benchmark."""

    model: ModelSettings
    sampling: SamplingSettings
    grading: Grading
    versions: dict[str, str]
    benchmarks: dict[str, BenchmarkSettings] = field(default_factory=dict)


def read_settings(folder: Path) -> RunSettings | None:
    """Return the settings of a results folder, ``None`` if it has none.

    Raises:
        ValueError: if the file is not what ``write_settings`` writes.
    """
    path = folder / FILE
    if not path.is_file():
        return None
    try:
        return _build(RunSettings, json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"{path}: not the settings of an evaluation ({error})") from error


def write_settings(folder: Path, settings: RunSettings) -> None:
    """Write ``settings.json`` in one step."""
    write_json(folder / FILE, asdict(settings), indent=2)


def claim_folder(folder: Path, settings: RunSettings) -> RunSettings:
    """Write the settings, or go on in a folder that has the same; benchmarks done there before stay listed.

    Raises:
        ValueError: if the folder holds results with other settings; names each difference.
    """
    there = read_settings(folder)
    if there is not None and _holds_responses(folder):
        shared = {name: data for name, data in there.benchmarks.items() if name in settings.benchmarks}
        changed = differences(_resumable(there, shared), _resumable(settings, settings.benchmarks, only=shared))
        refuse_other(folder, changed, "take another --out, or the same settings")
        settings = replace(settings, benchmarks={**there.benchmarks, **settings.benchmarks})
    write_settings(folder, settings)
    return settings


def _holds_responses(folder: Path) -> bool:
    """Return whether anything was answered; a run that was refused by its endpoint leaves settings only."""
    return any(file.stat().st_size > 0 for file in folder.glob(f"*/{RESPONSES}"))


def _resumable(
    settings: RunSettings,
    benchmarks: Mapping[str, BenchmarkSettings],
    only: Mapping[str, BenchmarkSettings] | None = None,
) -> RunSettings:
    kept = {name: data for name, data in benchmarks.items() if only is None or name in only}
    # The server, the file or the folder of the model may have moved: content decides.
    moved = {name: replace(data, origin="", notes=[]) for name, data in kept.items()}
    model = replace(settings.model, endpoint="")
    if model.engine == "transformers" and model.revision != UNKNOWN_REVISION:
        model = replace(model, name="")
    return replace(settings, model=model, benchmarks=moved)


def _build(kind: Any, value: Any) -> Any:
    """Turn parsed JSON into the typed record it was written from."""
    if is_dataclass(kind):
        known, record = typing.get_type_hints(kind), typing.cast(Any, kind)
        missing = [f.name for f in fields(kind) if f.name not in value]
        unknown = [name for name in value if name not in known]
        if missing or unknown:
            raise TypeError(f"fields missing: {missing}, unknown: {unknown}")
        return record(**{name: _build(known[name], inner) for name, inner in value.items()})
    if typing.get_origin(kind) is dict:
        return {key: _build(typing.get_args(kind)[1], inner) for key, inner in value.items()}
    return value
