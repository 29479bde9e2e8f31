"""A command killed at any change of the disk, and run again, ends with the bytes of one left alone.

What the manifests tell of time and place (`started`, `seconds`) is no part of that.
"""

import json
import random
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tests.support.commands import dies, ends_well

pytestmark = pytest.mark.slow

DEATHS = 20
CHINESE = [
    "白日依山尽，黄河入海流。欲穷千里目，更上一层楼。",
    "床前明月光，疑是地上霜。举头望明月，低头思故乡。",
    "春眠不觉晓，处处闻啼鸟。夜来风雨声，花落知多少。",
]
TRAINING = [
    "--num-tokens",
    1024,
    "--block-tokens",
    128,
    "--checkpoint-steps",
    1,
    "--lora-rank",
    4,
    "--dtype",
    "float32",
]
"""A type of its own: which one is faster, another process on these cores may decide."""
CLOCK = ("seconds", "tokens_per_second")


@pytest.fixture(scope="module")
def material(pico_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("material")
    shutil.copytree(pico_base, folder / "base")
    texts = [f"{CHINESE[n % 3]}第{n}首。" for n in range(60)]
    (folder / "zh.txt").write_text("\n\n".join(texts), encoding="utf-8")
    rows = [{"instruction": f"写第{n}首诗。", "output": CHINESE[n % 3]} for n in range(30)]
    text = json.dumps(rows, ensure_ascii=False)
    (folder / "chat.json").write_text(text, encoding="utf-8")
    return folder


def contents(output: Path) -> dict[str, object]:
    """Every file by its bytes, times and speeds left out."""
    if output.is_file():
        return {output.name: output.read_bytes()}
    return {
        file.relative_to(output).as_posix(): _timeless(file)
        for file in sorted(output.rglob("*"))
        if file.is_file()
    }


def _timeless(file: Path) -> object:
    if file.name == "manifest.json":
        tree = json.loads(file.read_text(encoding="utf-8"))
        return [tree["stage"], tree["config"], [one["path"] for one in tree["outputs"]]]
    if file.name == "metrics.jsonl":
        rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
        return [{key: row[key] for key in row if not key.startswith(CLOCK)} for row in rows]
    return file.read_bytes()


def check_deaths(command: Callable[[Path], Sequence[object]], folder: Path, name: str) -> None:
    """Kill a command at 20 of its changes of the disk, each time resume it, and compare."""
    alone = folder / "alone" / name
    alone.parent.mkdir()
    num_changes = ends_well(*command(alone)).changes
    wanted = contents(alone)
    chance = random.Random(0)
    points = sorted(chance.sample(range(num_changes), min(DEATHS, num_changes)))
    for number in points:
        place = folder / f"dies-{number}"
        place.mkdir()
        if dies(*command(place / name), before=number):
            ends_well(*command(place / name))
        assert contents(place / name) == wanted, f"killed at change {number} of {num_changes}"
        assert [left.name for left in place.iterdir()] == [name]


def test_a_killed_merge_ends_with_the_same_bytes(material: Path, tmp_path: Path) -> None:
    adapter = tmp_path / "adapter"
    base = material / "base"
    ends_well("pretrain", "--base", base, "--text", material / "zh.txt", "-o", adapter, *TRAINING)
    check_deaths(
        lambda output: ["merge", "--base", base, "--adapter", adapter, "-o", output],
        tmp_path,
        "merged",
    )


def test_a_killed_pretraining_ends_with_the_same_bytes(material: Path, tmp_path: Path) -> None:
    given = ["pretrain", "--base", material / "base", "--text", material / "zh.txt"]
    check_deaths(lambda output: [*given, "-o", output, *TRAINING], tmp_path, "adapter")


def test_a_killed_tuning_ends_with_the_same_bytes(material: Path, tmp_path: Path) -> None:
    given = ["sft", "--base", material / "base", "--instructions", material / "chat.json"]
    check_deaths(lambda output: [*given, "-o", output, *TRAINING], tmp_path, "adapter")


def test_a_killed_preference_tuning_ends_with_the_same_bytes(
    material: Path, tmp_path: Path
) -> None:
    rows = [
        {"prompt": f"写第{n}首诗。", "chosen": CHINESE[n % 3], "rejected": "不写。"}
        for n in range(8)
    ]
    pairs = material / "pairs.json"
    pairs.write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8")
    given = ["dpo", "--base", material / "base", "--preferences", pairs, "--block-tokens", 256]
    check_deaths(lambda output: [*given, "-o", output, *TRAINING[4:]], tmp_path, "adapter")


def test_a_killed_quantization_ends_with_the_same_bytes(material: Path, tmp_path: Path) -> None:
    check_deaths(
        lambda output: ["gguf", "write", material / "base", "-o", output, "--types", "f16,q8_0"],
        tmp_path,
        "files",
    )


def test_a_killed_extension_ends_with_the_same_bytes(material: Path, tmp_path: Path) -> None:
    given = ["tokenizer", "extend", "--base", material / "base", "--text", material / "zh.txt"]
    check_deaths(lambda output: [*given, "--num-pieces", 20, "-o", output], tmp_path, "extended")
