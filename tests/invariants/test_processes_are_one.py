"""Two processes that share each step are the training that one process is."""

import importlib.util
import json
import re
import subprocess
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.support.commands import Ended, hanpaca_together

pytestmark = pytest.mark.slow

POEM = "白日依山尽，黄河入海流。欲穷千里目，更上一层楼。"
OPTIONS = ["--block-tokens", 64, "--batch-blocks", 4, "--lora-rank", 4, "--dtype", "float32"]
TRAIN: dict[str, list[object]] = {
    "the reference's": ["--train", "lora", "--train", "embedding", "--train", "head"],
    "all": ["--train", "all", "--lora-rank", 32, "--learning-rate", 1e-4],
}
NUM_STEPS = 50
"""Of which the last has one block, and one process none."""
NUM_TOKENS = ["--num-tokens", (4 * NUM_STEPS - 3) * 64]
BOUND = 1e-5


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("material")
    texts = [f"{POEM}第{n}首。" for n in range(60)]
    (folder / "zh.txt").write_text("\n\n".join(texts), encoding="utf-8")
    # One answer of two is thirty times as long as the other: shares of a step differ in labels.
    rows = [
        {"instruction": f"写第{n}首诗。", "output": POEM if n % 2 else POEM[:1]} for n in range(40)
    ]
    (folder / "chat.json").write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8")
    return folder


def command(verb: str, base: Path, material: Path, output: Path) -> list[object]:
    given = {
        "pretrain": ["--text", material / "zh.txt", "--new-rows", 5],
        "sft": ["--instructions", material / "chat.json", "--template", "chatml"],
    }[verb]
    return [verb, "--base", base, *given, "-o", output, *OPTIONS, *NUM_TOKENS]


def rows_of(output: Path) -> list[dict[str, float]]:
    lines = (output / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def ended(arguments: list[object], processes: int) -> list[Ended]:
    """Run a command that must do what it is asked in every process."""
    done = hanpaca_together(*arguments, processes=processes)
    assert [one.returncode for one in done] == [0] * processes, done
    return done


def told(done: Ended) -> str:
    return done.stdout + done.stderr


def largest_difference(one: Path, other: Path) -> float:
    found, wanted = (load_file(next(folder.glob("*.safetensors"))) for folder in (one, other))
    assert found.keys() == wanted.keys()
    return max(float((found[name] - wanted[name]).abs().max()) for name in found)


@pytest.mark.parametrize("verb", ["pretrain", "sft"])
def test_each_loss_and_the_adapter_are_those_of_one_process(
    verb: str, pico_untied: Path, material: Path, tmp_path: Path
) -> None:
    alone, shared = tmp_path / "alone", tmp_path / "shared"
    ended(command(verb, pico_untied, material, alone), 1)
    assert told(ended(command(verb, pico_untied, material, shared), 2)[1]) == ""
    one, two = rows_of(alone), rows_of(shared)
    assert [row["step"] for row in two] == list(range(NUM_STEPS + 1))
    for name in ("step", "tokens", "learning_rate"):
        assert [row.get(name) for row in two] == [row.get(name) for row in one]
    losses = torch.tensor([[row["loss"] for row in rows[1:]] for rows in (one, two)])
    assert float(losses.diff(dim=0).abs().max()) <= BOUND
    assert losses[0, 0] - losses[0, -1] > 0.1
    assert largest_difference(alone, shared) <= BOUND
    assert {file.name for file in shared.iterdir()} == {file.name for file in alone.iterdir()}


@pytest.mark.parametrize("sharding", ["none", "full"])
@pytest.mark.parametrize("train", TRAIN)
def test_tables_and_whole_models_are_trained_as_by_one_process(
    train: str, sharding: str, pico_untied: Path, material: Path, tmp_path: Path
) -> None:
    """In shards too; one of two processes is killed on the way."""
    alone, shared = tmp_path / "alone", tmp_path / "shared"
    more = [*TRAIN[train], "--num-tokens", 64 * 4 * 8, "--checkpoint-steps", 3, "--new-rows", 0]
    ended([*command("pretrain", pico_untied, material, alone), *more], 1)
    given = [*command("pretrain", pico_untied, material, shared), *more, "--sharding", sharding]
    assert hanpaca_together(*given, processes=2, dies_at="checkpoint-6")[1].returncode == -9
    said = told(ended(given, 2)[0])
    assert "step 4/8" in said
    assert "step 3/8" not in said
    losses = [[row["loss"] for row in rows_of(folder) if row["step"]] for folder in (alone, shared)]
    assert losses[1] == pytest.approx(losses[0], abs=BOUND)
    # What is written in halves may round to the next one.
    assert largest_difference(alone, shared) <= (BOUND if train != "all" else 2**-9)


def test_rows_that_move_together_are_trained_as_by_one_process(
    pico_untied: Path, material: Path, tmp_path: Path
) -> None:
    alone, shared = tmp_path / "alone", tmp_path / "shared"
    for output, processes in ((alone, 1), (shared, 2)):
        given = command("pretrain", pico_untied, material, output)
        ended([*given, "--num-tokens", 64 * 4 * 8, "--row-updates", "together"], processes)
    losses = [[row["loss"] for row in rows_of(folder)[1:]] for folder in (alone, shared)]
    assert losses[1] == pytest.approx(losses[0], abs=BOUND)
    assert largest_difference(alone, shared) <= BOUND


def test_preferences_are_learned_as_by_one_process(
    pico_untied: Path, material: Path, tmp_path: Path
) -> None:
    """Blocks of unequal numbers of pairs; loss, margin and accuracy are those of all of them."""
    rows = [
        {"prompt": f"写第{n}首诗。", "chosen": POEM, "rejected": POEM[: 1 + n % 9]}
        for n in range(22)
    ]
    pairs = material / "pairs.json"
    pairs.write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8")
    given = ["dpo", "--base", pico_untied, "--preferences", pairs, "--learning-rate", 1e-3]
    more = [*OPTIONS, "--block-tokens", 512, "--template", "chatml", "--num-epochs", 3]
    alone, shared = tmp_path / "alone", tmp_path / "shared"
    for folder, number in ((alone, 1), (shared, 2)):
        ended([*given, "-o", folder, *more], number)
    one, two = rows_of(alone)[1:], rows_of(shared)[1:]
    assert [row["pairs"] for row in two] == [row["pairs"] for row in one]
    assert sum(row["pairs"] for row in one) == 3 * len(rows)
    for name in ("loss", "margin", "accuracy"):
        assert [row[name] for row in two] == pytest.approx([row[name] for row in one], abs=BOUND)
    assert one[-1]["margin"] > one[0]["margin"]
    assert largest_difference(alone, shared) <= BOUND


@pytest.mark.gpu
@pytest.mark.skipif(
    torch.cuda.device_count() < 2 or importlib.util.find_spec("deepspeed") is None,
    reason="two GPUs and deepspeed are needed",
)
def test_zero_2_as_the_guide_says_it_is_one_process(
    pico_untied: Path, material: Path, tmp_path: Path
) -> None:
    guide = (Path(__file__).parents[2] / "docs/training.md").read_text(encoding="utf-8")
    config = re.search(
        r"^    \{\n      \"zero_optimization.*?^    \}$", guide, re.MULTILINE | re.DOTALL
    )
    assert config is not None
    (tmp_path / "zero2.json").write_text(config[0], encoding="utf-8")
    alone, shared = tmp_path / "alone", tmp_path / "shared"
    ended(command("pretrain", pico_untied, material, alone), 1)
    launch = ["accelerate", "launch", "--num_processes", "2", "--use_deepspeed"]
    launch += ["--deepspeed_config_file", str(tmp_path / "zero2.json"), "--no_python", "hanpaca"]
    given = [str(one) for one in command("pretrain", pico_untied, material, shared)]
    subprocess.run([*launch, *given], check=True)
    losses = [[row["loss"] for row in rows_of(folder)[1:]] for folder in (alone, shared)]
    assert losses[1] == pytest.approx(losses[0], abs=1e-3)
    assert largest_difference(alone, shared) <= 1e-2


@pytest.mark.parametrize("base", ["pico_base", "pico_untied"])
def test_shards_of_a_model_are_trained_as_the_whole(
    base: str,
    material: Path,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    """FSDP2; killed after a checkpoint, whose adapter and optimizer are whole."""
    model = request.getfixturevalue(base)
    more = ["--num-tokens", 64 * 4 * 8, "--checkpoint-steps", 3]
    folders = [tmp_path / name for name in ("none", "full")]
    for folder in folders:
        given = [*command("pretrain", model, material, folder), *more, "--sharding", folder.name]
        if folder.name == "full":
            killed = hanpaca_together(*given, processes=2, dies_at="checkpoint-6")
            assert killed[1].returncode == -9
        said = told(ended(given, 2)[0])
        held = re.search(r"this process holds (\d+)% of all weights", said)
        assert (held is not None) == (folder.name == "full")
        assert held is None or int(held[1]) <= 52  # halves of an odd number of rows
    assert "step 4/8" in said
    assert "step 3/8" not in said
    losses = [[row["loss"] for row in rows_of(folder) if row["step"]] for folder in folders]
    assert losses[1] == pytest.approx(losses[0], abs=BOUND)
    assert largest_difference(*folders) <= BOUND


def test_one_process_is_killed_and_all_go_on(
    pico_untied: Path, material: Path, tmp_path: Path
) -> None:
    """Before it has written its part of the checkpoint of step 6, which so is none."""
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    more = ["--checkpoint-steps", 3, "--lora-dropout", 0.1, "--num-tokens", 64 * 4 * 8]
    ended([*command("sft", pico_untied, material, whole), *more], 2)
    dying = [*command("sft", pico_untied, material, killed), *more]
    first, last = hanpaca_together(*dying, processes=2, dies_at="checkpoint-6")
    assert last.returncode == -9
    assert first.returncode != 0
    assert not killed.exists()
    partial = killed.with_name("killed.partial")
    assert (partial / "checkpoints/checkpoint-3/whole").exists()
    assert not (partial / "checkpoints/checkpoint-6/whole").exists()
    assert "step 4/8" in told(ended(dying, 2)[0])
    assert largest_difference(whole, killed) == 0.0
    assert [row["step"] for row in rows_of(killed)] == list(range(9))


def test_what_one_process_began_two_go_on_with(
    pico_untied: Path, material: Path, tmp_path: Path
) -> None:
    alone, shared = tmp_path / "alone", tmp_path / "shared"
    more = ["--checkpoint-steps", 3, "--num-tokens", 64 * 4 * 8]
    ended([*command("pretrain", pico_untied, material, alone), *more], 1)
    begun = [*command("pretrain", pico_untied, material, shared), *more]
    dying = hanpaca_together(*begun, processes=1, dies_at="checkpoint-6/trainer_state.json")
    assert dying[0].returncode == -9
    said = told(ended(begun, 2)[0])
    assert "step 4/8" in said
    assert "step 3/8" not in said
    assert largest_difference(alone, shared) <= BOUND


def test_an_error_is_said_once_and_ends_all(
    pico_untied: Path, material: Path, tmp_path: Path
) -> None:
    given = [*command("sft", pico_untied, material, tmp_path / "a"), "--batch-blocks", 3]
    first, second = hanpaca_together(*given, processes=2)
    assert (first.returncode, second.returncode) == (2, 2)
    assert told(first).endswith(
        "the 3 blocks of a step cannot be shared evenly by 2 processes in 1 parts: give "
        "--batch-blocks a multiple of 2\n"
    )
    assert told(second) == ""
    given = [*command("pretrain", tmp_path / "none", material, tmp_path / "b")]
    first, second = hanpaca_together(*given, processes=2)
    assert (first.returncode, second.returncode) == (4, 4)
    assert told(second) == ""
