from pathlib import Path

import pytest

from hanpaca.errors import ArtifactError
from hanpaca.pipeline.tokenizer import _refuse_sentencepiece


def test_a_sentencepiece_base_is_refused_before_the_training(pico_sentencepiece: Path) -> None:
    with pytest.raises(ArtifactError, match=r"tokenizer\.model: .* cannot be written to GGUF yet"):
        _refuse_sentencepiece(pico_sentencepiece)


def test_a_byte_level_base_is_not(pico_base: Path) -> None:
    _refuse_sentencepiece(pico_base)
