"""The program: all that is loaded for it can be interrupted without a traceback."""

import sys
from typing import NoReturn


def main() -> NoReturn:
    """Load the command line and run it."""
    try:
        from hanpaca.cli import main as run
    except KeyboardInterrupt:
        sys.stderr.write("hanpaca: stopped\n")
        sys.exit(130)
    run()


if __name__ == "__main__":
    main()
