"""Run a study, in one process or several; what is finished is kept and never repeated."""

import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from ptdpo.signals import StopRequest, heeding_signals
from ptdpo.study.jobs import Job, check_finished, held_alone, jobs_of
from ptdpo.study.plan import Study

LOCKS = "locks"
_SECONDS_TO_WAIT = 5.0


def run_study(study: Study, say: Callable[[str], None], helpers: Sequence[Sequence[str]] = ()) -> None:
    """Do every job of a study that is not done yet; other processes may do the same in the same folder.

    Args:
        study: what to do.
        say: is told of each job as it begins.
        helpers: commands to start beside this process, each of which does the same.

    Raises:
        ValueError: if a job's recipe is wrong, or something in the folder was made with other settings.
        StoppedBySignal: if a signal ended it; what is finished is kept.
    """
    check_finished(study)
    started = [subprocess.Popen(list(command)) for command in helpers]
    try:
        with heeding_signals(say) as stop:
            _work(jobs_of(study), study.folder / LOCKS, say, stop)
    finally:
        # A signal reaches them too if it came from a terminal; a fault here should not leave them at work.
        for process in started:
            if sys.exc_info()[0] is not None:
                process.terminate()
            process.wait()


def _work(jobs: Sequence[Job], locks: Path, say: Callable[[str], None], stop: StopRequest) -> None:
    """Go through the jobs in their order until all are done, passing over those that another process does."""
    left = [job for job in jobs if not job.done()]
    while left:
        did = False
        for job in left:
            stop.check("finished jobs are kept; the same command goes on")
            if job.ready() and _do(job, locks, say, len(left)):
                did = True
                # What is done may have made an earlier job ready.
                break
        left = [job for job in left if not job.done()]
        if left and not did:
            time.sleep(_SECONDS_TO_WAIT)


def _do(job: Job, locks: Path, say: Callable[[str], None], left: int) -> bool:
    """Do a job unless another process does it; returns whether it was done here."""
    with held_alone(locks / f"{job.name}.lock") as alone:
        if not alone or job.done():
            return False
        say(f"{job.name} ({left} left)")
        job.run()
        assert job.done(), job.name
        return True


def helper_command(recipe: Path, folder: Path) -> list[str]:
    """Return the command of one more process for a study."""
    return [sys.executable, "-m", "ptdpo", "study", str(recipe), "--out", str(folder), "--workers", "1", "--no-tables"]
