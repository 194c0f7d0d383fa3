"""How much a run computes, reads and takes: tokens, floating-point operations and hours, from a configuration alone."""
