"""MMK12, test."""

from ptdpo.evaluate.benchmarks.papo_eval import papo_split

BENCHMARK = papo_split("mmk12", "MMK12", "general", 1, "PAPO_MMK12", 2000, "PAPO_MMK12_test_images.zip")
