"""The teacher: whose weights, what it is shown, what it says along the student's own tokens."""
