"""``ptdpo.algo`` needs torch alone: without any other package it imports and computes."""

import subprocess
import sys
from importlib import metadata

from packaging.requirements import Requirement

CODE = """
import importlib.abc, sys

class Refuse(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top not in sys.stdlib_module_names and top not in ALLOWED and not top.startswith("__editable__"):
            raise ModuleNotFoundError(f"refused {name}", name=name)

sys.meta_path.insert(0, Refuse())
import pkgutil, warnings
warnings.filterwarnings("ignore", "Failed to initialize NumPy")
import torch, ptdpo.algo
modules = [f"ptdpo.algo.{found.name}" for found in pkgutil.iter_modules(ptdpo.algo.__path__)]
for module in modules:
    if module.rpartition(".")[2] not in TRITON:
        __import__(module)
from ptdpo.algo.lm_head import teacher_topk, token_stats
states, weight = torch.randn(4, 8, requires_grad=True), torch.randn(30, 8, requires_grad=True)
stats = token_stats(states, weight, torch.tensor([1, 2, 3, 4]), teacher=teacher_topk(-states, weight, k=5), k=5)
stats.divergence.sum().backward()
assert 0 < stats.divergence.min() and states.grad.abs().max() > 0
print(len(modules), sorted(name for name in ("numpy", "jaxtyping", "triton", "trl") if name in sys.modules))
"""
# Need the package triton: chosen on a GPU where it is installed.
TRITON = ("kernels", "triton_calls", "triton_head")


def torch_and_its_own():
    """Return the top-level names that an environment with torch alone holds."""
    found, left = set(), ["torch"]
    while left:
        distribution = metadata.distribution(left.pop())
        if distribution.name in found:
            continue
        found.add(distribution.name)
        needed = map(Requirement, distribution.requires or ())
        left += [need.name for need in needed if need.marker is None or need.marker.evaluate({"extra": ""})]
    names = metadata.packages_distributions()
    return {top for top, owners in names.items() if found & set(owners)} - {"triton"}


def test_it_imports_and_computes_with_torch_alone():
    allowed = torch_and_its_own() | {"ptdpo", "torch"}
    assert not {"numpy", "jaxtyping", "transformers"} & allowed
    code = f"ALLOWED, TRITON = {sorted(allowed)!r}, {TRITON!r}\n{CODE}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    count, loaded = done.stdout.split(maxsplit=1)
    assert int(count) >= 20
    assert loaded.strip() == "[]"
