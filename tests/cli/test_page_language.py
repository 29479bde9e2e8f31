"""`--lang` decides the language of the page, not of the terminal."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from hanpaca.cli.app import app
from hanpaca.errors import RecipeError


def test_the_page_of_an_audit_is_written_in_the_language_asked_for(
    pico_base: Path, tmp_path: Path
) -> None:
    page = tmp_path / "page.html"
    arguments = ["tokenizer", "audit", str(pico_base), str(pico_base), "--html", str(page)]
    done = CliRunner().invoke(app, [*arguments, "--lang", "zh-Hans"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert "dead new pieces" in done.stdout
    assert "无法产生的新词" in page.read_text(encoding="utf-8")
    with pytest.raises(RecipeError, match="no page is written in 'fr'"):
        CliRunner().invoke(app, [*arguments, "--lang", "fr"], catch_exceptions=False)
