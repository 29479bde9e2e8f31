import json
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hanpaca.errors import ArtifactError
from hanpaca.tokenizer.count import json_entries, num_sentencepieces

PATH = Path("tokenizer.json")


def test_sentencepieces_are_counted_as_sentencepiece_does(shared_data: Path) -> None:
    sentencepiece = pytest.importorskip("sentencepiece")
    for name in ("llama/tokenizer.model", "chinese_sp.model"):
        file = shared_data / "tokenizers" / name
        oracle = sentencepiece.SentencePieceProcessor(model_file=str(file))
        assert num_sentencepieces(file) == len(oracle)


def test_entries_of_a_real_tokenizer_are_what_the_library_says(pico_base: Path) -> None:
    tokenizers = pytest.importorskip("tokenizers")
    file = pico_base / "tokenizer.json"
    oracle = tokenizers.Tokenizer.from_file(str(file)).get_vocab(with_added_tokens=True)
    assert json_entries(json.loads(file.read_text()), path=file) == oracle


def test_unigram_vocabularies_are_lists_and_added_tokens_count() -> None:
    tree = {
        "model": {"type": "Unigram", "vocab": [["a", 0.0], ["b", -1.0]]},
        "added_tokens": [{"content": "[PAD]", "id": 7}],
    }
    assert max(json_entries(tree, path=PATH).values()) == 7


@pytest.mark.parametrize(
    "tree",
    [
        {},
        {"model": []},
        {"model": {"vocab": 3}},
        {"model": {"vocab": {}}},
        {"model": {"vocab": {"a": "b"}}},
        {"model": {"vocab": {"a": True}}},
        {"model": {"vocab": {"a": 0}}, "added_tokens": [3]},
    ],
)
def test_a_damaged_tree_is_refused(tree: dict[str, object]) -> None:
    with pytest.raises(ArtifactError, match=r"tokenizer\.json: damaged"):
        json_entries(tree, path=PATH)


@given(st.binary(max_size=60))
def test_bytes_that_are_no_model_are_refused(data: bytes) -> None:
    import tempfile

    with tempfile.NamedTemporaryFile(suffix=".model") as stream:
        stream.write(data)
        stream.flush()
        with suppress(ArtifactError):
            assert num_sentencepieces(Path(stream.name)) > 0


def test_a_missing_or_huge_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="cannot be read"):
        num_sentencepieces(tmp_path / "none.model")
    with (tmp_path / "big.model").open("wb") as stream:
        stream.truncate(60_000_000)
    with pytest.raises(ArtifactError, match="too much"):
        num_sentencepieces(tmp_path / "big.model")
