"""Writes the pages that come from the program: python -m docs.make.references, from the root."""

from pathlib import Path

import typer
from typer.cli import get_docs_for_click
from typer.main import get_command

from hanpaca.cli import app
from hanpaca.runs.recipe_pages import recipe_reference
from hanpaca.steps.models import Release, models

DOCS = Path(__file__).parents[1]


def cli_reference() -> str:
    """Every command with its options."""
    context = typer.Context(get_command(app), info_name="hanpaca")
    text = get_docs_for_click(obj=context.command, ctx=context, name="hanpaca", title="Commands")
    return text.rstrip() + "\n"


def catalogue_page() -> str:
    """Every released model: what it is rebuilt from, and its hashes."""
    lines = [
        "# Model catalogue",
        "",
        "The models that the Chinese-LLaMA-Alpaca project released as LoRA, and the hashes that it",
        "published. `hanpaca models NAME` tells one, `hanpaca models NAME --download NAME` fetches",
        "its adapter, and `hanpaca verify-download FOLDER` compares a folder with these hashes.",
        "",
        "| model | rebuilt from, in order | vocabulary | r / alpha | answers | SHA-256 |",
        "|---|---|---|---|---|---|",
        *map(_row, models()),
    ]
    return "\n".join(lines) + "\n"


def _row(release: Release) -> str:
    cells = (
        f"{release.name} (`{release.hub}`)",
        " + ".join([release.base.name, *release.chain]),
        f"{release.vocab_size:,}",
        f"{release.rank} / {release.alpha}",
        "yes" if release.template else "continues text",
        f"`{release.adapter_sha256}`",
    )
    return f"| {' | '.join(cells)} |"


PAGES = {"cli.md": cli_reference, "recipe.md": recipe_reference, "catalogue.md": catalogue_page}

if __name__ == "__main__":
    for name, written in PAGES.items():
        (DOCS / name).write_text(written(), encoding="utf-8")
