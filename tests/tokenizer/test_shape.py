"""Sizes of models, against their published parameter counts."""

import json
from pathlib import Path
from typing import Any

import pytest

from hanpaca.errors import ArtifactError, RecipeError
from hanpaca.tokenizer.advice.speed import ParameterCounts, counts_of_sizes, read_counts

LLAMA_7B = {
    "vocab_size": 32000,
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
}
LLAMA_3_8B = LLAMA_7B | {
    "vocab_size": 128256,
    "intermediate_size": 14336,
    "num_key_value_heads": 8,
    "tie_word_embeddings": False,
}
SMOLLM2_135M = {
    "vocab_size": 49152,
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "head_dim": None,
    "tie_word_embeddings": True,
}


def write(folder: Path, config: object) -> Path:
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize(
    ("config", "num_parameters"),
    [(LLAMA_7B, 6_738_415_616), (LLAMA_3_8B, 8_030_261_248), (SMOLLM2_135M, 134_515_008)],
)
def test_a_config_gives_the_published_number_of_parameters(
    tmp_path: Path, config: dict[str, Any], num_parameters: int
) -> None:
    shape = read_counts(write(tmp_path, config))
    assert shape.num_parameters == num_parameters
    sizes = counts_of_sizes(
        num_parameters,
        config["hidden_size"],
        num_rows=config["vocab_size"],
        is_tied=config.get("tie_word_embeddings", False),
    )
    assert sizes == shape


def test_what_a_step_reads_is_body_and_head() -> None:
    tied = ParameterCounts(num_rows=100, hidden_size=10, num_body=3000, is_tied=True)
    assert tied.num_parameters == 4000
    assert tied.step_reads() == 4000
    assert tied.head_share() == 0.25
    assert tied.step_reads(100) == 5000
    assert tied.added_parameters(100) == 1000
    untied = ParameterCounts(num_rows=100, hidden_size=10, num_body=3000, is_tied=False)
    assert untied.num_parameters == 5000
    assert untied.step_reads() == 4000
    assert untied.added_parameters(100) == 2000


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "config.json: cannot be read: No such file"),
        ("{", "config.json: damaged"),
        ("[]", "a JSON object is expected"),
        (
            '{"hidden_size": 8}',
            "not the sizes .*num_attention_heads.*give num_parameters= and hidden_size=",
        ),
        ('{"hidden_size": "8", "num_attention_heads": 2}', "not the sizes"),
        ('{"hidden_size": 8, "num_attention_heads": 0}', "not the sizes"),
    ],
)
def test_a_useless_config_is_named(tmp_path: Path, content: str | None, message: str) -> None:
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    with pytest.raises(ArtifactError, match=message):
        read_counts(tmp_path)


def test_sizes_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(RecipeError, match="leave nothing beside 1000 rows"):
        counts_of_sizes(15_000, 10, num_rows=1000, is_tied=False)
    assert counts_of_sizes(15_000, 10, num_rows=1000, is_tied=True).num_body == 5000
