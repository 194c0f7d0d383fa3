"""easy-VQA, test: shipped with its PyPI package, run without a download."""

from ptdpo.data.easy_vqa import load_easy_vqa
from ptdpo.evaluate.benchmark import Benchmark, Local

BENCHMARK = Benchmark(
    "easy-vqa", "easy-VQA", "other", Local("easy-vqa package, test", lambda _: load_easy_vqa("test")), rows=9673
)
