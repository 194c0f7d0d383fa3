"""LogicVista."""

from ptdpo.evaluate.benchmarks.papo_eval import papo_split

BENCHMARK = papo_split("logicvista", "LogicVista", "vision-dependent", 9, "lscpku_LogicVista", 447)
