"""Lets torchvision be imported beside a torch that its compiled half was not built for.

The CPU build of vLLM pins a CPU build of torch, and the registry's torchvision is built for CUDA: what of it is Python,
which image processors use, works all the same, but the import stops at two operators that do not exist. Python runs
this at its start where ``PYTHONPATH`` names the folder: in the tests' process, and in those that vLLM starts.
"""

import importlib.machinery
import sys
from pathlib import Path

_MISSING = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
_libraries = []


class _Loader(importlib.machinery.SourceFileLoader):
    """Names the operators before the package is run, if its own library does not."""

    def exec_module(self, module):
        import torch

        try:
            torch.ops.load_library(str(Path(self.path).with_name("_C.so")))
        except (OSError, ImportError):
            # Kept: a library that is collected takes its operators with it.
            _libraries.append(torch.library.Library("torchvision", "DEF"))
            for operator in _MISSING:
                _libraries[-1].define(operator)
        super().exec_module(module)


class _Finder:
    """Finds torchvision as ever, with the loader above."""

    @staticmethod
    def find_spec(name, path=None, target=None):
        spec = importlib.machinery.PathFinder.find_spec(name, path) if name == "torchvision" else None
        if spec is not None:
            spec.loader = _Loader(name, spec.origin)
        return spec


sys.meta_path.insert(0, _Finder())
