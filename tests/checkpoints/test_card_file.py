"""What of a model card stands in a GGUF file."""

import shutil
from pathlib import Path
from typing import Any

import gguf
import pytest

from hanpaca.checkpoints.card import ModelCard
from hanpaca.checkpoints.card_file import read_card
from hanpaca.steps.write_gguf import folder_to_gguf

CARD = """---
license: apache-2.0
language:
  - zh
  - no
tags: [chat]
base_model: org/Base
---
# A model
"""


def test_a_card_stands_in_the_file(pico_base: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(pico_base, folder)
    (folder / "README.md").write_text(CARD)
    metadata: dict[str, Any] = {
        "x.text": "t",
        "x.on": True,
        "x.count": 3,
        "x.big": -(2**40),
        "x.share": 0.5,
    }
    folder_to_gguf(folder, tmp_path / "m.gguf", file_type="f16", metadata=metadata)
    fields = gguf.GGUFReader(tmp_path / "m.gguf").fields
    found = {key: field.contents() for key, field in fields.items()}
    assert metadata.items() <= found.items()
    assert found["general.name"] == "m"
    assert found["general.license"] == "apache-2.0"
    assert found["general.languages"] == ["zh", "no"]
    assert found["general.tags"] == ["chat"]
    assert found["general.base_model.count"] == 1
    assert found["general.base_model.0.organization"] == "org"
    assert found["general.base_model.0.repo_url"] == "https://huggingface.co/org/Base"


def test_the_card_names_the_model() -> None:
    assert ModelCard(name="N", base_models=("plain",)).metadata() == {
        "general.name": "N",
        "general.base_model.count": 1,
        "general.base_model.0.name": "plain",
    }


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no front matter",
        "---\nlicense: [\n---\n",
        "---\n- a\n---\n",
        "---\nlicense: mit\n",
        "\xff",
    ],
)
def test_a_card_that_says_nothing_is_none(text: str, tmp_path: Path) -> None:
    assert read_card(tmp_path) == ModelCard()
    (tmp_path / "README.md").write_text(text, encoding="latin-1")
    assert read_card(tmp_path).metadata() == {}
