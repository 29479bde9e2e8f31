"""The command line: parse, call, print. One module for each group of commands."""

import errno
import sys
from typing import NoReturn

from hanpaca.cli.app import app
from hanpaca.errors import HanpacaError

__all__ = ["app", "main"]

_STOPPED = 130
_MACHINE = 5
_PLACES = {
    errno.EACCES,
    errno.EEXIST,
    errno.EISDIR,
    errno.ENAMETOOLONG,
    errno.ENOSPC,
    errno.ENOTDIR,
    errno.EPERM,
    errno.EROFS,
}
"""What is wrong with a place to write to, and not with the program."""


def main() -> NoReturn:
    """Run a command; a deliberate error is one message on stderr and its own exit status."""
    try:
        app()
    except HanpacaError as error:
        text = "".join(c if c.isprintable() or c == "\n" else "?" for c in str(error))
        print(f"hanpaca: {text}", file=sys.stderr)
        sys.exit(error.exit_code)
    except OSError as error:
        if error.errno not in _PLACES:
            raise
        print(f"hanpaca: {error.filename or 'writing'}: {error.strerror}", file=sys.stderr)
        sys.exit(_MACHINE)
    except (KeyboardInterrupt, SystemExit) as end:
        # Typer turns Ctrl-C into this status without a word.
        if isinstance(end, SystemExit) and end.code != _STOPPED:
            raise
        print("hanpaca: stopped; run the same command again to go on", file=sys.stderr)
        sys.exit(_STOPPED)
    sys.exit(0)
