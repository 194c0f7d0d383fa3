"""MathVerse, the multiple-choice questions of testmini: 436 problems in five versions each."""

from ptdpo.evaluate.benchmarks.papo_eval import papo_split

BENCHMARK = papo_split("mathverse", "MathVerse", "general", 3, "AI4Math_MathVerse", 2180)
