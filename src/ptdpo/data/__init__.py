"""Where problems come from, and every text that a policy or a teacher reads."""
