"""One file per group of commands; ``ptdpo.cli`` registers them."""
