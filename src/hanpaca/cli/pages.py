"""The option of all commands that write a page: its language."""

from typing import Annotated

import typer

from hanpaca.report.wording import page_languages

_KNOWN = " or ".join(page_languages())
Lang = Annotated[str, typer.Option("--lang", help=f"Language of the page: {_KNOWN}.")]
