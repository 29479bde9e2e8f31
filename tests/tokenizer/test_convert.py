"""Conversion to tokenizer.json: same ids as sentencepiece, flags kept, ties refused."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer
from transformers import AutoTokenizer
from typer.testing import CliRunner

from hanpaca.cli import app
from hanpaca.errors import ArtifactError
from hanpaca.tokenizer.conversion.probe import PROBE
from hanpaca.tokenizer.conversion.published import merge_sentencepiece
from hanpaca.tokenizer.conversion.tokenizer_json import convert_sentencepiece, spec_of_sentencepiece
from hanpaca.tokenizer.sentencepiece_bpe import (
    SentencePieceBPE,
    read_sentencepiece,
    sentencepiece_of_proto,
)

ENGLISH = ["the theories of people", "people create theories", "a  b"] * 3
TEXTS = [*PROBE, "", " ", "  two  spaces  ", "\t", "白日依山尽", "x" * 300, "a\u0000b"]


@pytest.fixture(scope="module")
def base(pico_sentencepiece: Path) -> SentencePieceBPE:
    return read_sentencepiece(pico_sentencepiece)


def write_changed(base: SentencePieceBPE, folder: Path, change: Callable[[Any], object]) -> Path:
    proto = type(base.proto)()
    proto.CopyFrom(base.proto)
    change(proto)
    folder.mkdir()
    (folder / "tokenizer.model").write_bytes(proto.SerializeToString())
    return folder


def test_transformers_gives_the_ids_of_sentencepiece(
    base: SentencePieceBPE, pico_sentencepiece: Path, tmp_path: Path
) -> None:
    found = convert_sentencepiece(pico_sentencepiece, tmp_path)
    assert (found.num_pieces, found.num_differing) == (400, 0)
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')  # the model lands there later
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    expected = base.encode(TEXTS)
    assert loaded(TEXTS, add_special_tokens=False)["input_ids"] == expected
    assert loaded(TEXTS)["input_ids"] == [[1, *ids] for ids in expected]
    for text, ids in zip(TEXTS, expected, strict=True):
        assert loaded.decode(ids) == base.decode([ids])[0] == text
    assert (loaded.bos_token, loaded.eos_token, loaded.unk_token) == ("<s>", "</s>", "<unk>")
    assert (tmp_path / "tokenizer.model").read_bytes() == base.path.read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("add_prefix", [True, False])
@pytest.mark.parametrize("squeeze", [True, False])
def test_every_way_to_handle_spaces_is_converted(
    sentencepiece_trainer: Callable[..., bytes], tmp_path: Path, squeeze: bool, add_prefix: bool
) -> None:
    data = sentencepiece_trainer(
        ENGLISH, vocab_size=290, remove_extra_whitespaces=squeeze, add_dummy_prefix=add_prefix
    )
    (tmp_path / "tokenizer.model").write_bytes(data)
    assert convert_sentencepiece(tmp_path, tmp_path / "new").num_differing == 0


def test_a_table_of_characters_is_refused_where_the_libraries_read_it_differently(
    sentencepiece_trainer: Callable[..., bytes], tmp_path: Path
) -> None:
    data = sentencepiece_trainer(ENGLISH, vocab_size=290, normalization_rule_name="nmt_nfkc")
    (tmp_path / "tokenizer.model").write_bytes(data)
    with pytest.raises(ArtifactError, match="settings have no counterpart"):
        convert_sentencepiece(tmp_path, tmp_path / "new")
    assert convert_sentencepiece(tmp_path, tmp_path / "new", inexact=True).num_differing < 20


@pytest.mark.slow
@pytest.mark.parametrize(
    ("given", "flags", "around"),
    [
        ({}, {}, (True, False)),
        ({"add_bos_token": False, "add_eos_token": True}, {}, (False, True)),
        ({"add_bos_token": False}, {"add_bos": True, "add_eos": True}, (True, True)),
        (
            {"bos_token": {"__type": "AddedToken", "content": "<s>"}},
            {"add_eos": False},
            (True, False),
        ),
        ({}, {"add_bos": False}, (False, False)),
    ],
)
def test_flags_are_kept_as_given(
    base: SentencePieceBPE,
    tmp_path: Path,
    given: dict[str, Any],
    flags: dict[str, bool],
    around: tuple[bool, bool],
) -> None:
    folder = write_changed(base, tmp_path / "base", lambda proto: None)
    given = given | {"chat_template": "{{ messages }}", "legacy": True}
    (folder / "tokenizer_config.json").write_text(json.dumps(given))
    convert_sentencepiece(folder / "tokenizer.model", tmp_path / "new", **flags)
    config = json.loads((tmp_path / "new" / "tokenizer_config.json").read_text())
    assert (config["add_bos_token"], config["add_eos_token"]) == around
    assert config["chat_template"] == "{{ messages }}"
    ids = base.encode(["a fox"])[0]
    expected = [1] * around[0] + ids + [2] * around[1]
    assert AutoTokenizer.from_pretrained(tmp_path / "new")("a fox")["input_ids"] == expected
    raw = Tokenizer.from_file(str(tmp_path / "new" / "tokenizer.json"))
    assert raw.encode("a fox").ids == expected
    assert len(raw.encode("a fox", "the dog").ids) == len(raw.encode("a fox").ids) + len(
        raw.encode("the dog").ids
    )


def test_merges_follow_scores_and_not_ids(base: SentencePieceBPE) -> None:
    proto = type(base.proto)()
    proto.CopyFrom(base.proto)
    proto.pieces.add(piece="xq", score=-5000.0)
    proto.pieces.add(piece="qx", score=-4000.0)
    tokenizer = sentencepiece_of_proto(proto, path=base.path)
    spec = spec_of_sentencepiece(tokenizer)
    assert spec["model"]["merges"][-2:] == [["q", "x"], ["x", "q"]]
    assert spec["post_processor"] is None
    backend = Tokenizer.from_str(json.dumps(spec))
    assert backend.encode("fxqx").ids == tokenizer.encode(["fxqx"])[0]


def test_ties_are_refused_with_a_number_and_nothing_is_written(
    base: SentencePieceBPE, tmp_path: Path
) -> None:
    def tie(proto: Any) -> None:
        for piece in ("白", "日", "白日", "日白"):
            proto.pieces.add(piece=piece, score=0.0)

    folder = write_changed(base, tmp_path / "base", tie)
    call = ["tokenizer", "convert", str(folder), "-o", str(tmp_path / "new")]
    result = CliRunner().invoke(app, call)
    assert isinstance(result.exception, ArtifactError)
    message = str(result.exception)
    assert "pieces share a score" in message
    assert "\n" not in message
    assert [path.name for path in tmp_path.iterdir()] == ["base"]
    result = CliRunner().invoke(app, [*call, "--inexact"])
    assert result.exit_code == 0, result.exception
    assert " 0 of" not in result.output
    assert (tmp_path / "new" / "tokenizer.json").is_file()


@pytest.mark.slow
def test_what_has_no_counterpart_is_refused(base: SentencePieceBPE, tmp_path: Path) -> None:
    def put_space_behind(proto: Any) -> None:
        proto.trainer_spec.treat_whitespace_as_suffix = True

    folder = write_changed(base, tmp_path / "base", put_space_behind)
    with pytest.raises(ArtifactError, match="settings have no counterpart"):
        convert_sentencepiece(folder, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_flag_for_a_token_that_is_not_there_is_refused(
    base: SentencePieceBPE, tmp_path: Path
) -> None:
    folder = write_changed(base, tmp_path / "base", lambda proto: None)
    (folder / "tokenizer_config.json").write_text('{"eos_token": "<end>", "add_eos_token": true}')
    with pytest.raises(ArtifactError, match="no EOS piece <end> to add"):
        convert_sentencepiece(folder, tmp_path / "new")


@pytest.mark.slow
def test_the_published_merge_is_seen_to_be_inexact(shared_data: Path, tmp_path: Path) -> None:
    tokenizers = shared_data / "tokenizers"
    data, _ = merge_sentencepiece(
        tokenizers / "llama/tokenizer.model", tokenizers / "chinese_sp.model"
    )
    (tmp_path / "tokenizer.model").write_bytes(data)
    with pytest.raises(ArtifactError, match=r"\d+ of \d+ texts .* share a score"):
        convert_sentencepiece(tmp_path, tmp_path / "new")
