"""TRL's colocated vLLM as these tests want it: float32, not compiled, and started once per model."""

import os
from importlib.util import find_spec

import pytest

HAS_VLLM = find_spec("vllm") is not None
# Read when vLLM is imported. In one process, so that weights can be looked at and changed; little room for keys.
_ENVIRONMENT = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_DO_NOT_TRACK": "1",
    "TORCHDYNAMO_DISABLE": "1",
}
if HAS_VLLM:
    os.environ |= _ENVIRONMENT


def pytest_collection_modifyitems(items):
    """Everything here needs vLLM, whose imports warn."""
    reason = "vllm is not installed: make test-engines makes an environment that has its CPU build"
    for item in items:
        if "engines" in item.path.parent.name:
            item.add_marker(pytest.mark.filterwarnings("ignore"))
            item.add_marker(pytest.mark.skipif(not HAS_VLLM, reason=reason))


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    """Paths of models by family, each made when it is first asked for; ``unhushed``: see ``save_model``."""
    from tests.engines.models import save_model

    made = {}

    def path(name):
        if name not in made:
            family = "qwen3_vl" if name == "unhushed" else name
            made[name] = save_model(tmp_path_factory.mktemp(name), family, hushed=name != "unhushed")
        return made[name]

    return path


@pytest.fixture(scope="session")
def engines():
    return {}


@pytest.fixture
def run(tmp_path, models, engines, monkeypatch):
    """Train a family's model on some rows for two steps; what engine and trainer said of each other is kept."""
    # Imported here, where its warnings are let pass.
    from tests.engines.runs import Run, rows_of, start_plainly

    start_plainly(monkeypatch, engines)

    def start(family, shown, **settings):
        return Run(models(family), rows_of(shown), tmp_path / f"{family}-{shown}", monkeypatch, **settings)

    return start
