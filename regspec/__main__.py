"""The command ``regspec``, and ``python -m regspec``."""

import atexit
import gc
import sys


def main() -> None:
    """Runs the command line. Ctrl-C ends it without a traceback, while its modules are imported too."""
    gc.set_threshold(10_000)  # what is imported is no garbage, and would be looked through a hundred times
    atexit.register(gc.freeze)  # else Python looks for garbage in all that it has before it ends: a tenth of a check
    try:
        from regspec.cli import main as run

        run()
    except KeyboardInterrupt:
        sys.exit(130)  # as a shell has it


if __name__ == "__main__":
    main()
