"""What a training moves besides low-rank factors: all rows of the tables, or every weight."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from hanpaca.data.conversations import Message
from hanpaca.data.preferences import Preference
from hanpaca.errors import RecipeError
from hanpaca.merging import merge_adapters
from hanpaca.progress import Progress
from hanpaca.settings import DpoSettings, PretrainSettings, SftSettings
from hanpaca.steps.dpo import dpo
from hanpaca.steps.pretrain import pretrain
from hanpaca.steps.sft import sft

TEXTS = [f"白日依山尽，黄河入海流。第{number:02d}首。" for number in range(24)]
TALKS = [
    (Message("user", f"写第{n}首诗。"), Message("assistant", TEXTS[n] * (1 + n % 2)))
    for n in range(20)
]
GIVEN: dict[str, Any] = {
    "num_tokens": 64 * 2 * 5,
    "block_tokens": 64,
    "checkpoint_steps": 2,
    "dtype": "float32",
}
REFERENCE = ["lora", "embedding", "head"]
WAYS = [
    ("pico_base", REFERENCE),
    ("pico_untied", ["embedding"]),
    ("pico_base", ["all"]),
    ("pico_untied", ["all"]),
]


class KilledError(Exception):
    """Stands for a kill."""


def settings(train: list[str], **more: Any) -> PretrainSettings:
    # So fast that what is stored in halves is another number after five steps.
    lora = {"lora": {"rank": 4}} if "lora" in train else {"learning_rate": 5e-3}
    return PretrainSettings.model_validate({**GIVEN, "train": train, **lora, **more})


def contents(folder: Path) -> dict[str, bytes]:
    files = {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()}
    return {name: data for name, data in files.items() if name != "metrics.jsonl"}


def weights(folder: Path) -> dict[str, torch.Tensor]:
    (file,) = folder.glob("*.safetensors")
    return load_file(file)


def losses(folder: Path) -> list[float]:
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["loss"] for line in lines[1:]]


@pytest.mark.slow
@pytest.mark.parametrize(("base", "train"), WAYS)
def test_what_is_named_moves_and_nothing_else(
    base: str, train: list[str], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """It is said first; killed twice, it ends with the bytes of one that was left alone."""
    source = request.getfixturevalue(base)
    told: list[Progress] = []
    pretrain(source, TEXTS, tmp_path / "a", settings(train), tell=told.append)
    first = next(number for number, one in enumerate(told) if one.unit == "steps")
    (note,) = [one.note for one in told[:first] if one.note.startswith("trained are ")]
    assert ("of the embedding" in note, "of the layers" in note) == (True, train == ["all"])

    for step in (1, 4):

        def tell(progress: Progress, last: int = step) -> None:
            if progress.unit == "steps" and progress.done == last:
                raise KilledError

        with pytest.raises(KilledError):
            pretrain(source, TEXTS, tmp_path / "b", settings(train), tell=tell)
    kept = list((tmp_path / "b.partial/checkpoints").glob("checkpoint-*"))
    assert 1 <= len(kept) <= 2
    pretrain(source, TEXTS, tmp_path / "b", settings(train), tell=told.append)
    assert contents(tmp_path / "b") == contents(tmp_path / "a")
    assert losses(tmp_path / "b") == losses(tmp_path / "a")
    assert not (tmp_path / "b/checkpoints").exists()

    merged = tmp_path / "a"
    if train != ["all"]:
        assert {"adapter_config.json", "metrics.jsonl"} <= {one.name for one in merged.iterdir()}
        merge_adapters(source, [merged], tmp_path / "merged")
        merged = tmp_path / "merged"
    before, after = weights(source), weights(merged)
    assert before.keys() == after.keys()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    tables = {name for name in before if "embed_tokens" in name or "lm_head" in name}
    layers = {name for name in before if "proj" in name}
    assert moved == {
        "embedding": {"model.embed_tokens.weight"},
        "all": set(before),
    }.get(train[0], tables | layers)


@pytest.mark.slow
def test_a_model_trained_as_a_whole_is_the_base_of_what_comes_next(
    pico_base: Path, tmp_path: Path
) -> None:
    pretrain(pico_base, TEXTS, tmp_path / "a", settings(["all"]))
    given = {**GIVEN, "template": "chatml", "block_tokens": 256, "num_tokens": 2048}
    tuned = SftSettings.model_validate({**given, "train": ["all"]})
    sft(tmp_path / "a", TALKS, tmp_path / "b", tuned)
    assert "im_start" in (tmp_path / "b/chat_template.jinja").read_text(encoding="utf-8")
    preferring = DpoSettings.model_validate(
        {"block_tokens": 192, "learning_rate": 1e-3, "dtype": "float32", "train": ["all"]}
    )
    pairs = [
        Preference((Message("user", f"写第{n}句。", learned=False),), TEXTS[n], "never")
        for n in range(8)
    ]
    dpo(tmp_path / "b", pairs, tmp_path / "c", preferring)
    rows = (tmp_path / "c/metrics.jsonl").read_text(encoding="utf-8").splitlines()
    assert json.loads(rows[1])["loss"] == pytest.approx(0.6931, abs=1e-3)
    assert json.loads(rows[-1])["margin"] > 0
    names = ["config.json", "tokenizer.json"]
    assert [contents(tmp_path / "c")[one] for one in names] == [
        contents(pico_base)[one] for one in names
    ]


@pytest.mark.slow
@pytest.mark.parametrize("train", [REFERENCE, ["all"]], ids="+".join)
def test_a_step_in_parts_is_the_step_at_once(
    train: list[str], pico_untied: Path, tmp_path: Path
) -> None:
    given = {**GIVEN, "num_tokens": 256 * 14, "block_tokens": 256, "batch_blocks": 4}
    given |= {"template": "chatml", "train": train}
    parts = {"accumulation_steps": 4, "gradient_checkpointing": True}
    for name, more in (("one", {}), ("four", parts)):
        sft(pico_untied, TALKS, tmp_path / name, SftSettings.model_validate({**given, **more}))
    assert losses(tmp_path / "four") == pytest.approx(losses(tmp_path / "one"), abs=1e-5)
    one, four = (weights(tmp_path / name) for name in ("one", "four"))
    for name, tensor in one.items():
        torch.testing.assert_close(four[name], tensor, rtol=1e-2, atol=1e-5)


@pytest.mark.parametrize(
    ("train", "told"),
    [
        (["all", "lora"], "`all` is everything"),
        (["lora", "new_rows", "head"], "leave new_rows out"),
        ([], "at least 1"),
    ],
)
def test_words_that_contradict_each_other_are_refused(train: list[str], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        PretrainSettings.model_validate({"num_tokens": 512, "train": train})
    with pytest.raises(ValueError, match="leave the settings of lora out"):
        PretrainSettings.model_validate({"num_tokens": 512, "train": ["all"], "lora": {"rank": 8}})


def test_new_rows_of_a_base_that_has_none_are_nothing_to_train(
    pico_base: Path, tmp_path: Path
) -> None:
    with pytest.raises(RecipeError, match="the base has no new rows: give train= or new_rows="):
        pretrain(pico_base, TEXTS, tmp_path / "a", settings(["new_rows"]))
