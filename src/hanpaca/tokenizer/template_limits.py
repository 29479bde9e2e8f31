"""Whether a chat template comes to an end.

llama.cpp writes conversations by a file's template while it loads the file, and cannot be stopped
then: one with a loop of a hundred million would hold its program up for ever.
"""

import json
import subprocess
import sys
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

from hanpaca.errors import ArtifactError

_NO_END = 3
_TRIAL = Path(__file__).with_name("template_trial.py")


def check_ends(templates: Iterable[str], where: str) -> None:
    """Try templates in a process of its own, with limits on time and memory.

    What a template refuses or breaks on is not judged here: who uses it will hear of that.

    Args:
        templates: In Jinja.
        where: Names in messages what they belong to.

    Raises:
        ArtifactError: One does not end within them.
    """
    if not _end(tuple(dict.fromkeys(templates))):
        raise ArtifactError(
            f"{where}: its chat template does not end within two seconds and a gigabyte, even for "
            "one question",
            "give the model another",
        )


@lru_cache
def _end(templates: tuple[str, ...]) -> bool:
    if not templates:
        return True
    done = subprocess.run(
        [sys.executable, "-I", str(_TRIAL), str(_NO_END)],
        input=json.dumps(templates).encode(),
        capture_output=True,
        check=False,
    )
    killed = done.returncode < 0
    return not killed and done.returncode != _NO_END
