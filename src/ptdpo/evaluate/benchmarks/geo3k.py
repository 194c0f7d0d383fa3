"""Geometry3K, test."""

from ptdpo.evaluate.benchmarks.papo_eval import papo_split

BENCHMARK = papo_split("geo3k", "Geo3K", "general", 2, "hiyouga_geometry3k", 601)
