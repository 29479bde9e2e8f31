from pathlib import Path

import pytest

from tests.support.scripted import END, scripted_model


@pytest.fixture(scope="session")
def scripted_gguf(pico_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that gives `ANSWER` to everything and stops."""
    return scripted_model(pico_base, tmp_path_factory.mktemp("scripted") / "short", last=END)
