"""Counting: CLEVR Count 70k, 200 test questions."""

from ptdpo.evaluate.benchmarks.papo_eval import papo_split

BENCHMARK = papo_split("counting", "Counting", "vision-dependent", 7, "BUAADreamer_clevr_count_70k", 200)
