"""MMMU-Pro."""

from ptdpo.evaluate.benchmarks.papo_eval import papo_split

BENCHMARK = papo_split("mmmu-pro", "MMMU-Pro", "vision-dependent", 6, "MMMU_MMMU_Pro", 1730)
