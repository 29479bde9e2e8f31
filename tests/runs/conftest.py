from pathlib import Path

import pytest

from tests.support.commands import hanpaca


@pytest.fixture(scope="session")
def finished(pico_recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of that recipe after every stage."""
    run = tmp_path_factory.mktemp("runs") / "whole"
    done = hanpaca("run", pico_recipe, "--run", run)
    assert done.returncode == 0, done.stderr
    assert "zh bits/char" in done.stdout
    for command in (f"hanpaca chat {run}", "report.html", f"hanpaca verify {run}"):
        assert command in done.stdout
    assert "30-pretrain writes:" in done.stderr
    return run
