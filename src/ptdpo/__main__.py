"""``python -m ptdpo`` is the command ``ptdpo``."""

from ptdpo.cli import main

if __name__ == "__main__":
    main()
