"""The command ``regspec``, and ``python -m regspec``."""

import sys


def main() -> None:
    """Runs the command line. Ctrl-C ends it without a traceback, while its modules are imported too."""
    try:
        from regspec.cli import main as run

        run()
    except KeyboardInterrupt:
        sys.exit(130)  # as a shell has it


if __name__ == "__main__":
    main()
