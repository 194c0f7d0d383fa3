"""What a study has found so far: only what is finished."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ptdpo.compare.differences import differences_by_question, worlds_interval
from ptdpo.compare.plan import Setting
from ptdpo.evaluate.scoring import Scores
from ptdpo.runlog import METRICS_FILE
from ptdpo.statistics import Estimate, holm, mean_interval, p_value
from ptdpo.study.gains import GAINS_FILE, Gain, read_gains
from ptdpo.study.jobs import check_finished, chosen, final_folder, gains_folder, read_scores, start_folder, tuned
from ptdpo.study.plan import Study
from ptdpo.train.metrics import last_steps_mean, read_metrics

# Logged by training: name in tables -> metric, a mean over the last steps.
LOGGED = {"all-fail groups": "groups/all_fail", "entropy": "entropy", "KL": "kl"}
# Logged by TRL: mean of a step, sum up to it.
LENGTH, SAMPLED = "completions/mean_length", "num_tokens"
FEWEST = 2


@dataclass(frozen=True, slots=True)
class FinalRun:
    """An arm's final run in one world.

    Attributes:
        scores: what it answered.
        logged: means over its last steps; NaN: not logged.
        generated: tokens of the responses to each step's own prompts, the first draw: what takes the place of some of
            them (``dapo``, ``hdpo``, ``scaf-grpo``) is not in it.
        sampled: tokens of all prompts and responses that it sampled, those too that it threw away.
        seconds: of training.
    """

    scores: Scores
    logged: Mapping[str, float]
    generated: float
    sampled: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """One arm minus another, over the worlds in which both are finished.

    Attributes:
        arm: compared.
        other: with.
        worlds: how many.
        accuracy: difference with its 95 % interval over worlds and questions; ``None`` below two worlds.
        p: of no difference; NaN below two worlds.
        corrected: p by Holm among the comparisons that are planned for the same round.
        round: the later of the rounds of both arms.
        planned: how many comparisons that round has.
        logged: differences of ``LOGGED``, their t-intervals over worlds; ``None`` where a run logs none.
    """

    arm: str
    other: str
    worlds: int
    accuracy: Estimate | None
    p: float
    corrected: float
    logged: Mapping[str, Estimate | None]
    round: int
    planned: int


@dataclass(frozen=True, slots=True)
class GainOverQuestion:
    """A context over all validation worlds: pass@1 without and with it, the gain, and distances in nats per token.

    Of the questions that fail in all samples without it, ``partly`` and ``wholly`` are the shares right with it in
    some samples and in all.
    """

    shown: str
    worlds: int
    without: float
    accuracy: float
    gain: Estimate
    partly: float
    wholly: float
    divergence: float
    kl: float


@dataclass(frozen=True, slots=True)
class StudyResult:
    """Everything that is finished."""

    study: Study
    gains: Sequence[GainOverQuestion]
    tuning: Mapping[str, Mapping[str, Mapping[int, float]]]
    chosen: Mapping[str, Setting | None]
    start: Mapping[int, Scores]
    runs: Mapping[str, Mapping[int, FinalRun]]
    comparisons: Sequence[Comparison]


def read_study_results(study: Study) -> StudyResult:
    """Read what a study's folder holds; trains and answers nothing.

    Raises:
        ValueError: if it holds something that was made with other settings.
    """
    check_finished(study)
    names, worlds = study.in_order(), study.settings.worlds.test
    starts = {world: read_scores(start_folder(study, world)) for world in worlds}
    runs: dict[str, dict[int, FinalRun]] = {name: {} for name in names}
    for name in names:
        for world in worlds:
            home = final_folder(study, name, world)
            scores = None if home is None else read_scores(home)
            if home is not None and scores is not None:
                runs[name][world] = _final_run(home, scores, study)
    return StudyResult(
        study,
        _gains(study),
        {name: tuned(study, name) for name in names},
        {name: chosen(study, name) for name in names},
        {world: scores for world, scores in starts.items() if scores is not None},
        runs,
        _comparisons(study, runs),
    )


def _final_run(home: Path, scores: Scores, study: Study) -> FinalRun:
    rows = read_metrics(home / METRICS_FILE)
    rollouts = study.settings.shared.get("train", {}).get("per_device_train_batch_size", 0)
    lengths = [row[LENGTH] for row in rows if LENGTH in row]
    # Fine-tuning, which samples nothing, counts what it reads by the same name.
    generated, sampled = (sum(lengths) * rollouts, rows[-1][SAMPLED]) if lengths else (0.0, 0.0)
    logged = {name: last_steps_mean(rows, metric) for name, metric in LOGGED.items()}
    return FinalRun(scores, logged, generated, sampled, _seconds(rows))


def _seconds(rows: Sequence[Mapping[str, Any]]) -> float:
    """Return the seconds of all steps; ``elapsed`` begins anew where a run goes on."""
    steps = [row["step_time"] for row in rows if "step_time" in row]
    return sum(steps) if steps else rows[-1]["elapsed"]


def _comparisons(study: Study, runs: Mapping[str, Mapping[int, FinalRun]]) -> list[Comparison]:
    """Return all comparisons, round by round; each round is a family of its own, planned before the first run."""
    arms = study.settings.arms
    rounds = [max(arms[arm].round, arms[other].round) for arm, other in study.pairs]
    found: list[Comparison] = []
    for number in sorted(set(rounds)):
        pairs = [pair for pair, own in zip(study.pairs, rounds, strict=True) if own == number]
        family = [
            _compared(arm, other, runs[arm], runs[other], round=number, planned=len(pairs)) for arm, other in pairs
        ]
        corrected = iter(holm([one.p for one in family if one.accuracy is not None], len(pairs)))
        found += [one if one.accuracy is None else replace(one, corrected=next(corrected)) for one in family]
    return found


def _compared(
    arm: str, other: str, ours: Mapping[int, FinalRun], theirs: Mapping[int, FinalRun], **place: int
) -> Comparison:
    both = [world for world in ours if world in theirs]
    nothing = float("nan")
    if len(both) < FEWEST:
        return Comparison(arm, other, len(both), None, nothing, nothing, dict.fromkeys(LOGGED), **place)
    worlds = [differences_by_question(ours[world].scores, theirs[world].scores) for world in both]
    accuracy = worlds_interval(worlds)
    logged = {
        name: _interval([ours[world].logged[name] - theirs[world].logged[name] for world in both]) for name in LOGGED
    }
    return Comparison(arm, other, len(both), accuracy, p_value(accuracy, len(both)), nothing, logged, **place)


def _interval(values: Sequence[float]) -> Estimate | None:
    return None if any(value != value for value in values) else mean_interval(values)


def _gains(study: Study) -> list[GainOverQuestion]:
    folders = [gains_folder(study, world) for world in study.settings.worlds.validation]
    read = [read_gains(folder) for folder in folders if (folder / GAINS_FILE).exists()]
    if len(read) < FEWEST:
        return []
    return [_gain(place, read) for place in range(len(read[0][1]))]


def _gain(place: int, read: Sequence[tuple[Mapping[str, float], Sequence[Gain]]]) -> GainOverQuestion:
    """Return one context over the worlds; ``place`` is its place among all contexts."""
    count = len(read)
    worlds = [(plain, gains[place]) for plain, gains in read]
    differences: list[Mapping[Hashable, float]] = [
        {(number, key): value for key, value in one.gain.items()} for number, (_, one) in enumerate(worlds)
    ]
    failed = [one.gain[key] for plain, one in worlds for key, value in plain.items() if value == 0]
    return GainOverQuestion(
        worlds[0][1].shown,
        count,
        sum(sum(plain.values()) / len(plain) for plain, _ in worlds) / count,
        sum(one.accuracy for _, one in worlds) / count,
        worlds_interval(differences),
        sum(0 < value < 1 for value in failed) / max(len(failed), 1),
        sum(value == 1 for value in failed) / max(len(failed), 1),
        sum(one.divergence for _, one in worlds) / count,
        sum(one.kl for _, one in worlds) / count,
    )
