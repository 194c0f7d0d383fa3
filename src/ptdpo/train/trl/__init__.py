"""The engine over TRL: all that knows how its trainer samples, batches, scores and steps."""
