"""Several recipes over several seeds: choose settings on validation, test once, tables with intervals."""
