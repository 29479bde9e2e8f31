"""The command line: parse, call, print. One module for each group of commands."""

import sys
from typing import NoReturn

from hanpaca.cli.app import app
from hanpaca.errors import HanpacaError

__all__ = ["app", "main"]


def main() -> NoReturn:
    """Run a command; a deliberate error is one message on stderr and its own exit status."""
    try:
        app()
    except HanpacaError as error:
        text = "".join(c if c.isprintable() or c == "\n" else "?" for c in str(error))
        print(f"hanpaca: {text}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        print("hanpaca: stopped; run the same command again to go on", file=sys.stderr)
        sys.exit(130)
    sys.exit(0)
