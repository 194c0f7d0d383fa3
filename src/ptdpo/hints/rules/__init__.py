"""What makes a hint unfit, one rule a file: pure functions on tokens."""
