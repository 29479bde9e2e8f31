"""The command line: parse, call, print. One module for each group of commands."""

import errno
import sys
from collections.abc import Sequence
from itertools import pairwise
from typing import NoReturn

from hanpaca.cli.app import app
from hanpaca.cli.words import worded
from hanpaca.errors import HanpacaError, RecipeError
from hanpaca.together import follow, leads, together

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
    """Run a command; a deliberate error is one message on stderr and its own exit status.

    Of several processes (`torchrun`) the first runs it, and the others say nothing of their own.
    """
    try:
        _check_output(sys.argv)
        together(app)() if leads() else sys.exit(follow().status)
    except HanpacaError as error:
        text = "".join(c if c.isprintable() or c == "\n" else "?" for c in worded(error))
        print(f"hanpaca: {text}", file=sys.stderr)
        sys.exit(error.exit_code)
    except OSError as error:
        if error.errno not in _PLACES:
            raise
        print(f"hanpaca: {error.filename or 'writing'}: {error.strerror}", file=sys.stderr)
        sys.exit(_MACHINE)
    except (MemoryError, RuntimeError) as error:
        if not _is_out_of_memory(error):
            raise
        print("hanpaca: this takes more memory than there is", file=sys.stderr)
        sys.exit(_MACHINE)
    except (KeyboardInterrupt, SystemExit) as end:
        # Typer turns Ctrl-C into this status without a word.
        if isinstance(end, SystemExit) and end.code != _STOPPED:
            raise
        print("hanpaca: stopped; run the same command again to go on", file=sys.stderr)
        sys.exit(_STOPPED)
    sys.exit(0)


def _check_output(words: Sequence[str]) -> None:
    """An empty name, as of a variable that is not set, would be this folder."""
    pairs = set(pairwise(words))
    if "--output=" in words or pairs & {("-o", ""), ("--output", "")}:
        raise RecipeError("the name of the output is empty", "give {output}")


def _is_out_of_memory(error: MemoryError | RuntimeError) -> bool:
    """PyTorch says it in its own words, and is not loaded only to ask."""
    words = str(error)
    return isinstance(error, MemoryError) or "allocate memory" in words or "out of memory" in words
