"""Run by torchrun: a recipe on two processes, of which the second alone gets SIGTERM within its second step."""

import json
import os
import signal
import sys
from pathlib import Path

import torch

from ptdpo.cli import main
from ptdpo.train.trainer import PTDTrainer

STOP_AT = 2


def stopping(step):
    """Let the second process be asked to stop while it works on a step; which of both knows is seen at its end."""

    def run(trainer, *arguments, **keywords):
        if os.environ["RANK"] == "1" and trainer.state.global_step == STOP_AT - 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(trainer, *arguments, **keywords)

    return run


recipe, folder = sys.argv[1:]
PTDTrainer.training_step = stopping(PTDTrainer.training_step)
sys.argv = ["ptdpo", "train", recipe]
code = 0
try:
    main()
except SystemExit as end:
    code = end.code
Path(folder, f"code-{os.environ['RANK']}.json").write_text(json.dumps(code))
if torch.distributed.is_initialized():
    torch.distributed.destroy_process_group()
sys.stdout.flush()
os._exit(0)
