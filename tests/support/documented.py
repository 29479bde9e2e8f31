"""What a page of the documentation has its reader do: commands to give, files to write."""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from typer.main import get_command

from hanpaca.cli import app

NOT_RUN = ("needs a GPU", "downloads", "stays open", "takes long")
"""How the comment behind a command begins that no test runs."""
NOT_RUN_IN_CHINESE = ("需要 GPU", "会下载", "一直开着", "要很久")
_COMMAND = re.compile(r"^    (hanpaca [^#\n]*)(?:# *(.*))?$", re.MULTILINE)
_FILE = re.compile(r"```yaml\n# (\S+)\n(.*?)```", re.DOTALL)
_ANYWHERE = re.compile(r"(?:`|^    .*?)(?:\.venv/bin/)?(hanpaca [a-z][^`#\n]*)", re.MULTILINE)


@dataclass(frozen=True)
class Step:
    """A command, or a file to write."""

    text: str
    file: str = ""
    not_run: str = ""
    """Why no test runs it."""


def steps_of(page: Path) -> list[Step]:
    """Indented commands, and YAML blocks that begin with a file's name, in their order."""
    text = page.read_text(encoding="utf-8")
    found = {one.start(): Step(one[2], file=one[1]) for one in _FILE.finditer(text)}
    for one in _COMMAND.finditer(text):
        why = next((w for w in NOT_RUN + NOT_RUN_IN_CHINESE if (one[2] or "").startswith(w)), "")
        found[one.start()] = Step(one[1].strip(), not_run=why)
    return [found[place] for place in sorted(found)]


def commands_anywhere(page: Path) -> list[str]:
    """Whatever calls hanpaca with a command, in a line of its own or in the middle of a text."""
    text = page.read_text(encoding="utf-8")
    return [one[1].strip().strip("'\\").strip() for one in _ANYWHERE.finditer(text)]


def unknown(call: str) -> set[str]:
    """Options that a command has not; its name where there is no such command."""
    words = shlex.split(call)[1:]
    command = get_command(app)
    while hasattr(command, "commands"):
        name = words[0] if words else ""
        named = command.commands
        if name in named:
            words.pop(0)
        elif "question" not in named and "write" not in named:
            return {name}
        # `ask` and `gguf` take what is none of their commands for a question and for a model.
        command = named.get(name) or named.get("question") or named["write"]
    known = {option for parameter in command.params for option in parameter.opts}
    return {word for word in words if word.startswith("-") and len(word) > 1} - known
