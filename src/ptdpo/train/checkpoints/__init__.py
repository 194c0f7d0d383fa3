"""Checkpoints that are whole or not there, resuming that repeats the run, and stopping when a signal asks for it."""
