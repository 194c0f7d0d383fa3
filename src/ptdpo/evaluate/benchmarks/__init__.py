"""The benchmarks: every module of this package that defines ``BENCHMARK`` declares one."""

import importlib
import pkgutil

from ptdpo.evaluate.benchmark import Benchmark


def _declared() -> dict[str, Benchmark]:
    """Return the benchmarks by name: the paper's in the order of its columns, then the others by name."""
    modules = [importlib.import_module(f"{__name__}.{module.name}") for module in pkgutil.iter_modules(__path__)]
    found = [module.BENCHMARK for module in modules if hasattr(module, "BENCHMARK")]
    found.sort(key=lambda b: (b.column == 0, b.column, b.name))
    assert len({b.name for b in found}) == len(found), "two benchmarks have the same name"
    return {benchmark.name: benchmark for benchmark in found}


BENCHMARKS = _declared()
