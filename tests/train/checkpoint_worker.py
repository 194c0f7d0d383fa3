"""Run by two processes: ``ptdpo train`` under an engine that CPUs have only through a shim; notes its exit code."""

import json
import os
from pathlib import Path

from tests.train.deepspeed_worker import allow_cpu


def shard_on_cpu():
    """Let accelerate shard on CPUs as it does on GPUs: by itself it takes FSDP there for DDP, without a word."""
    from accelerate.state import AcceleratorState, DistributedType, PartialState

    begin = AcceleratorState.__init__

    def begin_sharded(state, *arguments, fsdp_plugin=None, **keywords):
        begin(state, *arguments, fsdp_plugin=fsdp_plugin, **keywords)
        if fsdp_plugin is not None:
            state.distributed_type = PartialState._shared_state["distributed_type"] = DistributedType.FSDP
            state.fsdp_plugin = fsdp_plugin

    AcceleratorState.__init__ = begin_sharded


SHIMS = {"ddp": lambda: None, "fsdp": shard_on_cpu, "deepspeed": allow_cpu}


def main(engine, folder, *arguments):
    """Run the command; exit codes of both processes lie in the folder."""
    from ptdpo import cli

    SHIMS[engine]()
    os.sys.argv = ["ptdpo", *arguments]
    code = 0
    try:
        cli.main()
    except SystemExit as end:
        code = end.code
    Path(folder, f"code-{os.environ['RANK']}.json").write_text(json.dumps(code))
