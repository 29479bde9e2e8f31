"""The command doctor."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from hanpaca.cli.display import print_table


def doctor(
    folder: Annotated[Path, typer.Argument(help="Where runs are to be written.")] = Path(),
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")] = False,
) -> None:
    """Say what this machine has, what is missing, and the command that mends it.

    Exit status 5 where something is missing that nothing works without.
    """
    from hanpaca.steps.doctor import doctor as look

    findings = look(folder)
    if as_json:
        print(json.dumps([asdict(one) for one in findings], indent=2, ensure_ascii=False))
    else:
        rows = [
            (one.name, Text(one.found), Text(one.mend, "red" if one.needed else "yellow"))
            for one in findings
        ]
        print_table(("", "found", "to mend it"), rows)
    if any(one.needed and one.mend for one in findings):
        raise typer.Exit(5)
