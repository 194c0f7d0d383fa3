"""We-Math, testmini."""

from ptdpo.evaluate.benchmarks.papo_eval import papo_split

BENCHMARK = papo_split("we-math", "We-Math", "general", 5, "We_Math", 1740, "We-Math_We-Math_images.zip")
