"""Training by itself, outside a run: what is held out, what goes on, and what does not."""

import doctest
import importlib
import io
import json
import math
import re
import shutil
from pathlib import Path

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from hanpaca.cli import app
from hanpaca.cli.watch import curve, drawn
from hanpaca.data.conversations import Message
from hanpaca.data.sources import Texts
from hanpaca.errors import ArtifactError, DataError, RecipeError
from hanpaca.progress import Progress
from hanpaca.settings import PretrainSettings, SftSettings
from hanpaca.steps.pretrain import pretrain
from hanpaca.steps.sft import sft
from hanpaca.steps.watch import Watched, watch
from hanpaca.tokenizer.extension.extend import extend_tokenizer, write_extension
from hanpaca.training.begun import num_new_rows, training_key
from tests.support.in_process import say

TEXTS = [f"白日依山尽，黄河入海流。第{number:02d}首。" for number in range(24)]
SETTINGS = PretrainSettings.model_validate(
    {
        "num_tokens": 512,
        "block_tokens": 64,
        "checkpoint_steps": 1,
        "dtype": "float32",  # which one is faster is tried, and a busy machine may say either
        "lora": {"rank": 4},
    }
)
FILES = ("adapter_model.safetensors", "adapter_config.json")


class KilledError(Exception):
    """Stands for a kill."""


def stopped(base: Path, output: Path, texts: list[str], step: int = 3) -> None:
    def tell(progress: Progress) -> None:
        if progress.unit == "steps" and progress.done == step:
            raise KilledError

    with pytest.raises(KilledError):
        pretrain(base, texts, output, SETTINGS, tell=tell)


def steps_of(base: Path, output: Path, texts: list[str]) -> list[float]:
    """Train to the end; the steps that were told."""
    told: list[Progress] = []
    pretrain(base, texts, output, SETTINGS, tell=told.append)
    return [one.done for one in told if one.unit == "steps"]


@pytest.fixture(scope="module")
def whole(pico_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The adapter of a training that nothing interrupted."""
    output = tmp_path_factory.mktemp("whole") / "adapter"
    assert steps_of(pico_base, output, TEXTS) == [1, 2, 3, 4]
    return output


@pytest.mark.slow
def test_what_was_interrupted_goes_on_and_ends_the_same(
    whole: Path, pico_base: Path, tmp_path: Path
) -> None:
    output = tmp_path / "adapter"
    stopped(pico_base, output, TEXTS)
    assert steps_of(Path(shutil.copytree(pico_base, tmp_path / "moved")), output, TEXTS) == [3, 4]
    for name in FILES:
        assert (output / name).read_bytes() == (whole / name).read_bytes()
    assert {path.name for path in output.iterdir()} == {path.name for path in whole.iterdir()}


@pytest.mark.slow
def test_a_training_is_watched_while_it_goes_and_afterwards(
    pico_base: Path, tmp_path: Path
) -> None:
    output = tmp_path / "adapter"
    with pytest.raises(ArtifactError, match="no training has begun here"):
        watch(output)
    seen: list[Watched] = []

    def tell(progress: Progress) -> None:
        if progress.unit == "steps":
            seen.append(watch(output))

    metrics = pretrain(pico_base, TEXTS, output, SETTINGS, tell=tell)
    assert [one.step for one in seen] == [1, 2, 3, 4]
    assert all(one.running and one.num_steps == 4 and one.name == "adapter" for one in seen)
    assert seen[0].seconds_left is not None
    assert seen[0].seconds_left > seen[-1].seconds_left == 0.0  # type: ignore[operator]
    after = watch(output)
    assert not after.running
    assert after.losses[-1] == metrics["loss"]
    for number, name in ((0, "before"), (-1, "after")):
        assert after.bits[number] == metrics[f"heldout_bits_per_character_{name}"]
    assert after.sample
    screen = Console(width=200, record=True, file=io.StringIO())
    screen.print(drawn(after))
    shown = screen.export_text()
    assert shown.startswith("adapter: done, step 4/4, ")
    assert f"loss {metrics['loss']:.3f}" in shown


@pytest.mark.slow
def test_the_old_language_is_measured_too_and_changes_nothing(
    whole: Path, pico_base: Path, tmp_path: Path
) -> None:
    output = tmp_path / "adapter"
    old = ["The quick brown fox jumps over the lazy dog. " * 40, "It was the best of times."]
    metrics = pretrain(pico_base, TEXTS, output, SETTINGS, replay_heldout=old)
    for name in FILES:
        assert (output / name).read_bytes() == (whole / name).read_bytes()
    seen = watch(output)
    assert len(seen.replay_bits) == len(seen.bits) == 2
    for number, when in ((0, "before"), (-1, "after")):
        name = f"replay_heldout_bits_per_character_{when}"
        assert seen.replay_bits[number] == metrics[name]
    # What transformers itself says of the base.
    tokenizer = AutoTokenizer.from_pretrained(pico_base)
    model = AutoModelForCausalLM.from_pretrained(pico_base, dtype=torch.float32)
    nats = 0.0
    for text in (one[:1_000] for one in old):
        ids = torch.tensor([[1, *tokenizer.encode(text, add_special_tokens=False)]])
        with torch.inference_mode():
            nats += float(model(ids, labels=ids).loss) * (ids.shape[1] - 1)
    expected = nats / math.log(2) / sum(len(one[:1_000]) for one in old)
    assert seen.replay_bits[0] == pytest.approx(expected, rel=1e-4)


@pytest.mark.slow
def test_a_training_ends_where_the_old_language_suffers_more_than_it_may(
    pico_base: Path, tmp_path: Path
) -> None:
    old = ["The quick brown fox jumps over the lazy dog.", "It was the best of times."]
    free = SETTINGS.model_copy(update={"sample_steps": 1, "learning_rate": 0.1})
    pretrain(pico_base, TEXTS, tmp_path / "free", free, replay_heldout=old)
    first, *bits = watch(tmp_path / "free").replay_bits
    rise = (max(bits[:-1]) / first - 1) / 2
    assert rise > 0, "nothing was forgotten that could be seen"
    steps = next(number for number, one in enumerate(bits, 1) if one > (1 + rise) * first)

    told: list[str] = []
    output, bound = tmp_path / "adapter", free.model_copy(update={"max_replay_rise": rise})
    metrics = pretrain(
        pico_base,
        TEXTS,
        output,
        bound,
        replay_heldout=old,
        tell=lambda progress: told.append(progress.note),
    )
    assert metrics["num_steps"] == steps < 4
    assert watch(output).replay_bits == (first, *bits[:steps])
    assert metrics["num_tokens"] == steps * 2 * 64
    assert [one for one in told if one.startswith(f"ended after step {steps} of 4: held-out")]
    assert (output / FILES[0]).is_file()
    with pytest.raises(RecipeError, match="no held-out text of the old language"):
        pretrain(
            pico_base, TEXTS, tmp_path / "none", free.model_copy(update={"max_replay_rise": 1})
        )


@pytest.mark.slow
def test_a_text_replaced_by_one_of_the_same_size_is_not_gone_on_with(
    whole: Path, pico_base: Path, tmp_path: Path
) -> None:
    other = [text.replace("白日依山尽", "春眠不觉晓") for text in TEXTS]
    stopped(pico_base, tmp_path / "adapter", other)
    with pytest.raises(ArtifactError, match=r"adapter\.partial: other work was begun here"):
        steps_of(pico_base, tmp_path / "adapter", TEXTS)
    shutil.rmtree(tmp_path / "adapter.partial")
    assert steps_of(pico_base, tmp_path / "adapter", TEXTS) == [1, 2, 3, 4]
    for name in FILES:
        assert (tmp_path / "adapter" / name).read_bytes() == (whole / name).read_bytes()


def test_content_decides_what_the_same_training_is(pico_base: Path, tmp_path: Path) -> None:
    def key(base: Path = pico_base, texts: object = TEXTS, seed: int = 0, **more: object) -> str:
        settings = SETTINGS.model_copy(update=more)
        given = {"learned": texts}
        return training_key("pretrain", base, given, settings=settings, made_of=[seed])  # type: ignore[arg-type]

    base = Path(shutil.copytree(pico_base, tmp_path / "base"))
    assert key(base) == key()
    others = [key(texts=TEXTS[1:]), key(texts=TEXTS[::-1]), key(seed=1), key(learning_rate=1e-3)]
    weights = base / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    others.append(key(base))
    shutil.copyfile(pico_base / "model.safetensors", weights)
    assert key(base) == key()
    config = json.loads((base / "tokenizer_config.json").read_text())
    (base / "tokenizer_config.json").write_text(json.dumps(config | {"eos_token": "<|endoftext|>"}))
    others.append(key(base))
    assert len({key(), *others}) == 1 + len(others)


@pytest.mark.slow
def test_one_document_in_twenty_is_held_out_and_never_learned(
    pico_base: Path, tmp_path: Path
) -> None:
    told: list[Progress] = []
    texts = [f"{text}{number}" for number, text in enumerate(TEXTS * 2)]
    pretrain(pico_base, iter(texts), tmp_path / "a", SETTINGS, tell=told.append)
    assert told[0].note == "2 of 48 documents are held out to measure on"
    pretrain(pico_base, texts[2:], tmp_path / "b", SETTINGS, heldout=texts[:2])
    pretrain(pico_base, texts[2:], tmp_path / "c", SETTINGS, heldout=())
    for name in ("b", "c"):
        adapters = [tmp_path / folder / FILES[0] for folder in ("a", name)]
        assert adapters[0].read_bytes() == adapters[1].read_bytes()
    with pytest.raises(DataError, match="at least two documents are needed, one to measure on"):
        pretrain(pico_base, texts[:1], tmp_path / "d", SETTINGS)


def test_a_finished_adapter_is_not_written_over(whole: Path, pico_base: Path) -> None:
    with pytest.raises(ArtifactError, match="already exists: remove it or give another output="):
        pretrain(pico_base, TEXTS, whole, SETTINGS)


def test_a_share_of_old_text_without_any_is_told(pico_base: Path, tmp_path: Path) -> None:
    told: list[str] = []
    pretrain(pico_base, TEXTS, tmp_path / "a", SETTINGS, tell=lambda one: told.append(one.note))
    assert sum("there is no replay text" in note for note in told) == 1


@pytest.mark.slow
def test_files_are_streamed_to_the_same_adapter_and_encoded_once(
    whole: Path, pico_base: Path, tmp_path: Path
) -> None:
    (tmp_path / "a.txt").write_text("\n\n".join(TEXTS), encoding="utf-8")
    source = Texts((tmp_path / "a.txt",))
    first = pretrain(pico_base, source, tmp_path / "a", SETTINGS)
    faster = SETTINGS.model_copy(update={"learning_rate": 1e-3})
    again = pretrain(pico_base, source, tmp_path / "b", faster)
    assert (first["num_tokenized"], again["num_tokenized"]) == (len(TEXTS) - 1, 0)
    assert again["blocks_sha256"] == first["blocks_sha256"]
    assert (tmp_path / "a" / FILES[0]).read_bytes() == (whole / FILES[0]).read_bytes()


@pytest.mark.slow
def test_weights_are_one_above_0_for_each_path(
    pico_base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text("\n\n".join(TEXTS), encoding="utf-8")
    source = Texts((tmp_path / "a.txt", tmp_path / "b.txt"))

    def weighed(*weights: float) -> PretrainSettings:
        return SETTINGS.model_copy(update={"weights": weights})

    for texts, weights in ((source, [1.0]), (TEXTS, [1.0, 1.0])):
        with pytest.raises(RecipeError, match=r"weights: .* give one for each text="):
            pretrain(pico_base, texts, tmp_path / "x", weighed(*weights))
    given = ["--text", source.paths[0], "--text", source.paths[1], "--num-tokens", 512]
    given += ["--block-tokens", 64, "--dtype", "float32", "--lora-rank", 4]
    command = ["pretrain", "--base", pico_base, "-o", tmp_path / "said", *given]
    wrong = say(capsys, *command, "--weight", 1, "--weight", 0)
    assert "--weight: each must be above 0" in wrong.last_line
    metrics = pretrain(pico_base, source, tmp_path / "out", weighed(1, 1))
    assert metrics["num_tokenized"] == 2 * len(TEXTS) - 2
    assert say(capsys, *command, "--weight", 1, "--weight", 1).status == 0
    both = [(tmp_path / name / FILES[0]).read_bytes() for name in ("out", "said")]
    assert both[0] == both[1]


def test_nothing_to_tune_on_is_said(pico_base: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no conversation to learn from"):
        sft(pico_base, [], tmp_path / "out", SftSettings(num_tokens=512))
    assert not list(tmp_path.iterdir())


def test_new_rows_are_those_that_grow_says_it_added(tmp_path: Path) -> None:
    assert num_new_rows(tmp_path) == 0
    (tmp_path / "manifest.json").write_text('{"metrics": {"num_tensors": 9}}')
    assert num_new_rows(tmp_path) == 0
    (tmp_path / "manifest.json").write_text('{"metrics": {"num_new_rows": 12}}')
    assert num_new_rows(tmp_path) == 12
    (tmp_path / "manifest.json").write_text('{"metrics": {"num_new_rows": "many"}}')
    with pytest.raises(ArtifactError, match="num_new_rows is no number: give new_rows="):
        num_new_rows(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["grow", "pretrain", "sft", "dpo", "bakeoff"])
def test_the_example_of_each_verb_is_true(verb: str, pico_base: Path, tmp_path: Path) -> None:
    texts = [f"白日依山尽，黄河入海流。第{number}首。" for number in range(40)]
    write_extension(extend_tokenizer(pico_base, texts, num_pieces=12), pico_base, tmp_path / "t")
    given = {
        "base": pico_base,
        "extended": tmp_path / "t",
        "texts": texts,
        "folder": tmp_path,
        "Message": Message,
    }
    module = importlib.import_module(f"hanpaca.steps.{verb}")
    found = doctest.testmod(module, extraglobs=given)
    assert found.attempted > 0
    assert found.failed == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    "how", [{"accumulation_steps": 2}, {"accumulation_steps": 4, "gradient_checkpointing": True}]
)
def test_a_step_in_parts_is_the_step_at_once(
    how: dict[str, object], pico_untied: Path, tmp_path: Path
) -> None:
    """Though one answer is thirty times as long as the other, and the last step has two parts."""
    talks = [
        (Message("user", f"写第{n}首诗。"), Message("assistant", TEXTS[n] * (3 if n % 2 else 1)))
        for n in range(20)
    ]
    given = {
        **SETTINGS.model_dump(),
        "num_tokens": 256 * 14,
        "block_tokens": 256,
        "batch_blocks": 4,
    }
    given = {name: given[name] for name in given if name in SftSettings.model_fields}
    given["template"] = "chatml"
    losses, adapters = [], []
    for number, more in enumerate(({}, how)):
        output = tmp_path / str(number)
        sft(pico_untied, talks, output, SftSettings.model_validate({**given, **more}))
        lines = (output / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        losses.append([json.loads(line)["loss"] for line in lines[1:]])
        adapters.append(load_file(output / FILES[0]))
    assert len(losses[0]) == 4
    assert losses[1] == pytest.approx(losses[0], abs=1e-5)
    for name, tensor in adapters[0].items():
        torch.testing.assert_close(adapters[1][name], tensor, rtol=0, atol=1e-5)


def test_blocks_that_do_not_part_evenly_are_refused() -> None:
    with pytest.raises(ValueError, match=r"batch_blocks \(2\) cannot be computed in accum"):
        PretrainSettings(num_tokens=512, accumulation_steps=3)


def test_a_curve_is_as_wide_as_a_line_and_as_high_as_a_letter() -> None:
    assert curve((4.0, 3.0, 2.0, 1.0)) == "█▆▃▁"
    assert curve((2.0,)) == "▁"
    assert curve(tuple(float(n) for n in range(1000))) == curve(tuple(float(n) for n in range(60)))


def test_the_held_out_text_is_told_before_and_after(
    pico_base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "zh.txt").write_text("\n\n".join(TEXTS), encoding="utf-8")
    given = ["--base", pico_base, "--text", tmp_path / "zh.txt", "-o", tmp_path / "out"]
    given += ["--replay-heldout", tmp_path / "zh.txt"]
    settings = ["--num-tokens", 512, "--block-tokens", 64, "--dtype", "float32"]
    with pytest.raises(SystemExit):
        app([str(one) for one in ("pretrain", *given, *settings)])
    told = capsys.readouterr()
    assert re.search(r"held-out text: \d+\.\d{3} bits per character before, \d+", told.out)
    assert re.search(r"\nof the old language: \d+\.\d{3} bits per character before", told.out)
    assert re.search(r"trained are [\d,]+ of LoRA factors: \d+\.\d\d% of all weights", told.err)


@pytest.mark.slow
def test_blocks_longer_than_the_base_was_made_for_are_told(
    pico_base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = tmp_path / "base"
    shutil.copytree(pico_base, base)
    config = json.loads((base / "config.json").read_text(encoding="utf-8"))
    (base / "config.json").write_text(json.dumps({**config, "max_position_embeddings": 32}))
    (tmp_path / "zh.txt").write_text("\n\n".join(TEXTS), encoding="utf-8")
    words = ["pretrain", "--base", base, "--text", tmp_path / "zh.txt", "--dtype", "float32"]
    for block_tokens, longer in ((64, True), (32, False)):
        size = ["--block-tokens", block_tokens, "--num-tokens", 128]
        said = say(capsys, *words, *size, "-o", tmp_path / f"out{block_tokens}")
        assert said.status == 0
        told = "blocks of 64 tokens are longer than the 32 positions the base was made for"
        assert (told in " ".join(said.error.split())) == longer
