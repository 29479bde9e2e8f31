from pathlib import Path

import pytest

from tests.support.scripted import END, scripted_model


@pytest.fixture(scope="session")
def scripted_folder(pico_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`short.gguf`, which answers and ends, and `endless.gguf`, which writes on, not too fast."""
    folder = tmp_path_factory.mktemp("pages")
    scripted_model(pico_base, folder / "short", last=END)
    scripted_model(pico_base, folder / "endless", last="\n", intermediate_size=20_000)
    return folder
