"""Whoever asks whether a base and adapters go together gets one answer, with the same reason."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from hanpaca.checkpoints.fingerprint import model_fingerprint
from hanpaca.cli import app
from hanpaca.cli.words import worded
from hanpaca.errors import HanpacaError
from hanpaca.merging import MergeOptions, plan_merge
from tests.support.adapters import marked
from tests.support.merge_oracle import Q, State, factors, prefixed, tables, write_adapter

Make = Callable[[Path, Path], list[Path]]
ROWS = "model.embed_tokens.token_adapter.trainable_tokens_delta"


@dataclass(frozen=True)
class Answer:
    """What a command says of a base and adapters."""

    fault: str | None
    warnings: tuple[str, ...]


def one(state: Callable[[], State] = factors, **config: Any) -> Make:
    def make(base: Path, folder: Path) -> list[Path]:
        return [write_adapter(folder / "a", prefixed(state()), **config)]

    return make


def with_more(**more: tuple[int, ...]) -> Callable[[], State]:
    names = {name.replace("__", "."): torch.ones(shape) for name, shape in more.items()}
    return lambda: factors() | names


def chain(*marks: str, grow: tuple[int, int] = (394, 394)) -> Make:
    """Two adapters; `base` marks one as trained on the base, `other` on another model."""

    def make(base: Path, folder: Path) -> list[Path]:
        found = []
        for number, mark in enumerate(marks):
            state = prefixed(factors(seed=number) | tables(grow[number], seed=number))
            adapter = write_adapter(folder / f"a{number}", state)
            prints = {"base": model_fingerprint(base), "other": "0" * 64}
            if mark in prints:
                marked(adapter, base=prints[mark])
            found.append(adapter)
        return found

    return make


def without_config(base: Path, folder: Path) -> list[Path]:
    adapter = write_adapter(folder / "a", prefixed(factors()))
    (adapter / "adapter_config.json").unlink()
    return [adapter]


def other_tokenizer(base: Path, folder: Path) -> list[Path]:
    adapter = write_adapter(folder / "a", prefixed(factors()))
    return [marked(adapter, base=model_fingerprint(base), tokenizer="0" * 64)]


def more_pieces(base: Path, folder: Path) -> list[Path]:
    adapter = write_adapter(folder / "a", prefixed(factors()))
    tree = json.loads((base / "tokenizer.json").read_text())
    tree["added_tokens"].append({"content": "[PAD]", "id": 394})
    (adapter / "tokenizer.json").write_text(json.dumps(tree))
    return [adapter]


def second_file(base: Path, folder: Path) -> list[Path]:
    adapter = write_adapter(folder / "a", prefixed(factors()))
    torch.save({"v_head.weight": torch.ones(1)}, adapter / "value_head.bin")
    return [adapter]


CASES: dict[str, tuple[Make, str | None]] = {
    "plain": (one(), None),
    "trained on the base": (chain("base"), None),
    "trained on another base": (chain("other"), "trained on another model"),
    "second trained on another base": (chain("base", "other"), "trained on another model"),
    "both trained on the base": (chain("base", "base"), None),
    "wrong order": (chain("", "", grow=(400, 396)), "wrong order of adapters"),
    "pissa": (one(init_lora_weights="pissa"), "init_lora_weights = 'pissa'"),
    "layer replication": (one(layer_replication=[[0, 1]]), "layer_replication"),
    "oft": (one(peft_type="OFT"), "peft_type is 'OFT'"),
    "trainable tokens": (
        one(lambda: {ROWS: torch.ones(2, 32)}, peft_type="TRAINABLE_TOKENS", token_indices=[3, 5]),
        None,
    ),
    "no config": (without_config, "so the scaling is unknown"),
    "empty": (one(dict), "the adapter is empty"),
    "unknown tensor": (one(with_more(**{f"{Q}.lora_C.weight": (4, 32)})), "of a kind that cannot"),
    "bias": (one(with_more(**{f"{Q}.bias": (32,)})), "of a kind that cannot"),
    "not in the base": (one(with_more(**{"model.extra.weight": (3,)})), "is not in the base"),
    "another shape": (one(with_more(**{"model.norm.weight": (3,)})), "belongs to another model"),
    "gap in the rows": (
        one(lambda: {ROWS: torch.ones(1, 32)}, trainable_token_indices=[395]),
        "rows between are nowhere",
    ),
    "huge ids": (
        one(lambda: {ROWS: torch.ones(2, 32)}, trainable_token_indices=[1, 10**18]),
        "rows between are nowhere",
    ),
    "ids that are not its own": (
        one(lambda: {ROWS: torch.ones(2, 32)}, trainable_token_indices=[1]),
        "copy its own adapter_config.json",
    ),
    "half a vocabulary": (
        one(lambda: {"lm_head.weight": torch.ones(400, 32)}),
        "not the other matrix of the vocabulary",
    ),
    "another rank": (one(r=8), "says rank 8"),
    "rank pattern of zero": (one(rank_pattern={"q_proj": 0}), "says rank 0"),
    "alpha of zero": (one(alpha_pattern={"q_proj": 0}), None),
    "alpha of 399 digits": (one(lora_alpha=10**398), "give no scaling"),
    "pattern that hangs": (one(alpha_pattern={"(.|.)*" * 6 + "[A-Z]": 1}), "takes too long"),
    "overlapping patterns": (one(alpha_pattern={"down_proj": 1, "mlp.down_proj": 2}), None),
    "left out by the configuration": (one(exclude_modules=["k_proj"]), None),
    "fan in fan out": (one(fan_in_fan_out=True), None),
    "dora without magnitudes": (one(use_dora=True), "has no magnitudes"),
    "a second file": (second_file, None),
    "another tokenizer": (other_tokenizer, "another tokenizer"),
    "a tokenizer with more pieces": (more_pieces, "ids from 394 on would fail"),
}


def asked(*arguments: object) -> tuple[str | None, str, str]:
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if isinstance(done.exception, HanpacaError):
        return worded(done.exception), done.stdout, done.stderr
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return None, done.stdout, done.stderr


def of_inspect(base: Path, adapters: list[Path]) -> Answer:
    given = [part for adapter in adapters for part in ("--adapter", adapter)]
    failed, out, _ = asked("inspect", base, *given, "--hash", "--json")
    tree = json.loads(out)
    assert bool(failed) == bool(tree["faults"])
    return Answer(next(iter(tree["faults"]), None), tuple(tree["warnings"]))


def of_merge(base: Path, adapters: list[Path], output: Path) -> Answer:
    given = [part for adapter in adapters for part in ("--adapter", adapter)]
    failed, _, told = asked("merge", "--base", base, *given, "-o", output, "--no-manifest")
    lines = [line.removeprefix("warning: ") for line in told.splitlines() if "warning: " in line]
    return Answer(failed, tuple(lines))


def of_gguf(base: Path, adapters: list[Path], output: Path) -> Answer:
    given = [part for adapter in adapters for part in ("--adapter", adapter)]
    failed, _, told = asked("gguf", "write", base, *given, "-o", output, "--types", "f32")
    lines = " ".join(told.split()).split("Note: ")[1:]
    return Answer(failed, tuple(line.strip() for line in lines))


def of_python(base: Path, adapters: list[Path]) -> Answer:
    try:
        return Answer(None, tuple(plan_merge(base, adapters, MergeOptions()).warnings))
    except HanpacaError as error:
        return Answer(worded(error), ())


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_every_command_gives_the_same_answer(case: str, pico_untied: Path, tmp_path: Path) -> None:
    make, reason = CASES[case]
    base = Path(shutil.copytree(pico_untied, tmp_path / "base"))
    adapters = make(base, tmp_path)
    wanted = of_inspect(base, adapters)
    assert (wanted.fault is None) == (reason is None), wanted
    assert reason is None or reason in str(wanted.fault)
    assert of_merge(base, adapters, tmp_path / "merged") == wanted
    python, gguf = of_python(base, adapters), of_gguf(base, adapters, tmp_path / "gguf")
    assert python.fault == gguf.fault == wanted.fault
    if reason is None:
        assert python == wanted
        assert [" ".join(one.split()) for one in wanted.warnings] == [
            note for note in gguf.warnings if any(str(adapter) in note for adapter in adapters)
        ]


@pytest.mark.parametrize("case", ["plain", "wrong order", "pissa", "oft", "another rank", "empty"])
def test_an_adapter_for_llama_cpp_is_judged_the_same(
    case: str, pico_untied: Path, tmp_path: Path
) -> None:
    adapter = CASES[case][0](pico_untied, tmp_path)[-1]
    wanted = of_inspect(pico_untied, [adapter])
    given = ("gguf", "adapter", adapter, "--base", pico_untied, "-o", tmp_path / "a.gguf")
    failed, _, told = asked(*given)
    if case == "wrong order":  # alone it fits, but brings what GGUF adapters cannot carry
        assert "which a GGUF adapter cannot carry" in str(failed)
        return
    assert failed == wanted.fault
    assert all(warning in told for warning in wanted.warnings)
