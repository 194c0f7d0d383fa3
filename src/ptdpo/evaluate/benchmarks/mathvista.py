"""MathVista, testmini."""

from ptdpo.evaluate.benchmarks.papo_eval import papo_split

BENCHMARK = papo_split("mathvista", "MathVista", "general", 4, "AI4Math_MathVista", 1000)
