"""``python -m regspec``."""

from regspec.cli import main

main()
