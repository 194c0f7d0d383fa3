"""A study of many methods on one world of puzzles: worlds, budget, arms, tables; docs/study.md."""
