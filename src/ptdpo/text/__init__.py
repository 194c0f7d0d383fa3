"""Numbers, units and words in answers and hints: one reader for both."""

# A longer "answer" is a runaway generation. The bound also caps the cost of reading one.
MAX_ANSWER = 256
