"""Worked solutions for supervised fine-tuning: sampled, verified, the shortest right one kept."""
