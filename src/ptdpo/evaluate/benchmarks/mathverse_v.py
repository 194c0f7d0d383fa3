"""MathVerse-V: the versions of MathVerse that need the image."""

from ptdpo.evaluate.benchmarks.papo_eval import papo_split

BENCHMARK = papo_split("mathverse-v", "MathVerse-V", "vision-dependent", 8, "AI4Math_MathVerse_vision_dependent", 1308)
