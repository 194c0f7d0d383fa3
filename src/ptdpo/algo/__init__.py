"""The method itself: pure tensor functions, no I/O, no engine."""
