"""The records of a run: what was sampled, how it was judged, what was tutored, and a sample of it token by token.

They lie below ``records/`` of a run's folder, one shard per process, and are described in docs/formats.md.
"""

from ptdpo.runlog.lines import FOLDER, GroupLine, Leading, QuestionLine, RolloutLine, TokenLine
from ptdpo.runlog.reader import RunRecords, read_records
from ptdpo.runlog.writer import RecordWriter

# Beside the records in a run's folder: what it is trained with, that it is finished, a line of metrics per step.
STARTED, FINISHED, METRICS_FILE = "started.json", "finished.json", "metrics.jsonl"
# What a run without a recipe was started with.
SETTINGS_FILE = f"{FOLDER}/settings.json"

__all__ = [
    "FINISHED",
    "METRICS_FILE",
    "SETTINGS_FILE",
    "STARTED",
    "GroupLine",
    "Leading",
    "QuestionLine",
    "RecordWriter",
    "RolloutLine",
    "RunRecords",
    "TokenLine",
    "read_records",
]
