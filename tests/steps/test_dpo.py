"""Preference tuning by itself: its loss, what it learns, and that nothing is lost on the way."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM
from typer.testing import CliRunner

from hanpaca.cli import app
from hanpaca.data.conversations import Message
from hanpaca.data.named_templates import CHATML
from hanpaca.data.pack import BlocksInMemory
from hanpaca.data.preferences import Preference, preference_row
from hanpaca.errors import DataError, RecipeError
from hanpaca.model.load import load_model, load_tokenizer
from hanpaca.model.preference import PreferenceLoss, log_ratios
from hanpaca.progress import Progress
from hanpaca.settings import DpoSettings
from hanpaca.steps.dpo import DpoTexts, dpo, pack_preferences
from hanpaca.steps.merge import merge
from hanpaca.training.reference import pairs_of

PAIRS = [
    Preference(
        (Message("user", f"写第{number}句。", learned=False),),
        f"白日依山尽，第{number}句。",
        f"never {number}",
    )
    for number in range(12)
]
SETTINGS = DpoSettings.model_validate(
    {
        "block_tokens": 192,
        "num_epochs": 4,
        "learning_rate": 3e-3,
        "checkpoint_steps": 1,
        "dtype": "float32",  # which one is faster is tried, and a busy machine may say either
        "lora": {"rank": 4},
    }
)
FILES = ("adapter_model.safetensors", "adapter_config.json")


class KilledError(Exception):
    """Stands for a kill."""


def steps_in(folder: Path) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [row for row in rows if row["step"]]


@pytest.fixture(scope="module")
def tuned(pico_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tuned") / "adapter"
    dpo(pico_base, PAIRS, folder, SETTINGS)
    return folder


def test_the_first_loss_is_that_of_no_preference_and_margins_rise(tuned: Path) -> None:
    steps = steps_in(tuned)
    assert steps[0]["loss"] == pytest.approx(math.log(2), abs=1e-4)
    assert steps[0]["margin"] == pytest.approx(0, abs=1e-4)
    assert steps[-1]["loss"] < 0.6
    assert steps[-1]["margin"] > 0.2
    assert steps[-1]["accuracy"] == 1
    assert sum(row["pairs"] for row in steps) == SETTINGS.num_epochs * len(PAIRS)


@pytest.mark.slow
def test_an_interrupted_tuning_ends_with_the_same_bytes(
    pico_base: Path, tuned: Path, tmp_path: Path
) -> None:
    def tell(progress: Progress) -> None:
        if progress.unit == "steps" and progress.done == 3:
            raise KilledError

    output = tmp_path / "adapter"
    with pytest.raises(KilledError):
        dpo(pico_base, PAIRS, output, SETTINGS, tell=tell)
    told: list[Progress] = []
    metrics = dpo(pico_base, PAIRS, output, SETTINGS, tell=told.append)
    assert next(one.done for one in told if one.unit == "steps") in (3, 4)
    assert not [one for one in told if one.unit == "blocks"]  # the reference was kept
    for name in FILES:
        assert (output / name).read_bytes() == (tuned / name).read_bytes()
    assert [row["loss"] for row in steps_in(output)] == [row["loss"] for row in steps_in(tuned)]
    assert metrics["accuracy"] > 0.5
    assert not (output / "checkpoints").exists()


def test_the_adapter_is_pefts_and_merges(pico_base: Path, tuned: Path, tmp_path: Path) -> None:
    from peft import PeftModel

    base = AutoModelForCausalLM.from_pretrained(pico_base, dtype=torch.float32)
    theirs = PeftModel.from_pretrained(base, tuned).merge_and_unload()
    merge(pico_base, [tuned], tmp_path / "merged", dtype="f32")
    ours = load_file(tmp_path / "merged/model.safetensors")
    state = theirs.state_dict()
    assert {name for name in ours if not torch.equal(ours[name], base_of(pico_base)[name])}
    for name, tensor in ours.items():
        torch.testing.assert_close(tensor, state[name], rtol=0, atol=1e-6)


def base_of(folder: Path) -> dict[str, torch.Tensor]:
    return {name: one.float() for name, one in load_file(folder / "model.safetensors").items()}


def nats_alone(model: torch.nn.Module, ids: list[int], labels: list[int]) -> torch.Tensor:
    """Log-probability of an answer, by transformers' own logits of the sequence alone."""
    logits = model(input_ids=torch.tensor([ids])).logits[0].log_softmax(dim=-1)
    places = [place for place, label in enumerate(labels) if label != -100]
    return torch.stack([logits[place - 1, labels[place]] for place in places]).sum()


def most_pairs(blocks: BlocksInMemory) -> int:
    return int(pairs_of(blocks).max())


def columns_of(blocks: BlocksInMemory) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    columns = (blocks.input_ids, blocks.labels, blocks.position_ids)
    ids, answers, positions = (torch.from_numpy(one).long() for one in columns)
    return ids, answers, positions


def labels_of(blocks: BlocksInMemory) -> torch.Tensor:
    is_pair = torch.arange(most_pairs(blocks)) < torch.from_numpy(pairs_of(blocks))[:, None]
    return torch.where(is_pair, 0, -100)


def sides_of(blocks: BlocksInMemory) -> list[list[tuple[list[int], list[int]]]]:
    """The sequences of each block, padding left out."""
    found = []
    for ids, labels, positions in zip(
        blocks.input_ids, blocks.labels, blocks.position_ids, strict=True
    ):
        starts = np.flatnonzero(positions == 0)[1:]
        parts = zip(np.split(ids, starts), np.split(labels, starts), strict=True)
        found.append([(i.tolist(), t.tolist()) for i, t in parts if (t != -100).any()])
    return found


def test_the_loss_is_that_of_the_formula_on_each_sequence_alone(pico_base: Path) -> None:
    """Equation 7 of arXiv 2305.18290, from transformers' own logits."""
    tokenizer = load_tokenizer(pico_base)
    tokenizer.chat_template = CHATML
    blocks = pack_preferences(tokenizer, DpoTexts(PAIRS, []), SETTINGS)
    assert pairs_of(blocks).max() > 1
    model = load_model(pico_base, dtype=torch.float32)
    alone = AutoModelForCausalLM.from_pretrained(pico_base, dtype=torch.float32)
    most = most_pairs(blocks)
    reference = torch.randn(len(blocks), most, generator=torch.Generator().manual_seed(0))
    wanted = []
    for row, sides in enumerate(sides_of(blocks)):
        for number, (chosen, rejected) in enumerate(zip(sides[::2], sides[1::2], strict=True)):
            ratio = nats_alone(alone, *chosen) - nats_alone(alone, *rejected)
            margin = 0.3 * (ratio - reference[row, number])
            wanted.append(-torch.log(torch.sigmoid(margin)))
    ids, answers, positions = columns_of(blocks)
    labels = labels_of(blocks)
    for parameter in (*model.parameters(), *alone.parameters()):
        parameter.requires_grad_(True)
    loss = PreferenceLoss(model, beta=0.3)(
        ids, labels, positions, answers=answers, reference=reference
    )["loss"]
    mean = torch.stack(wanted).mean()
    assert len(wanted) == len(PAIRS)
    torch.testing.assert_close(loss, mean, rtol=1e-5, atol=1e-5)
    loss.backward()
    mean.backward()  # type: ignore[no-untyped-call]
    for one, other in zip(model.parameters(), alone.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-3, atol=1e-5)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # what their libraries warn each other of
def test_loss_and_margins_are_those_of_trl(pico_base: Path, tuned: Path, tmp_path: Path) -> None:
    """A model that has left its reference, evaluated by trl's own trainer."""
    trl = pytest.importorskip("trl", reason="trl is not installed")
    datasets = pytest.importorskip("datasets", reason="datasets, which trl takes, is not installed")
    from peft import PeftModel

    base = AutoModelForCausalLM.from_pretrained(pico_base, dtype=torch.float32)
    left = PeftModel.from_pretrained(base, tuned).merge_and_unload()
    tokenizer = load_tokenizer(pico_base)
    tokenizer.chat_template = (  # trl also learns what stands after the end of a turn
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    rows = [
        {"prompt": row["prompt"]}
        | {side: [{"role": "assistant", "content": row[side]}] for side in ("chosen", "rejected")}
        for row in map(preference_row, PAIRS)
    ]
    given = {"per_device_eval_batch_size": len(PAIRS), "report_to": "none", "bf16": False}
    arguments = trl.DPOConfig(str(tmp_path / "trl"), beta=0.3, use_cpu=True, **given)
    trainer = trl.DPOTrainer(
        left,
        AutoModelForCausalLM.from_pretrained(pico_base, dtype=torch.float32),
        args=arguments,
        train_dataset=datasets.Dataset.from_list(rows),
        eval_dataset=datasets.Dataset.from_list(rows),
        processing_class=tokenizer,
    )
    theirs = trainer.evaluate()
    blocks = pack_preferences(tokenizer, DpoTexts(PAIRS, []), SETTINGS)
    reference = log_ratios(
        load_model(pico_base, dtype=torch.float32), *columns_of(blocks), most_pairs(blocks)
    )
    merge(pico_base, [tuned], tmp_path / "merged", dtype="f32")
    ours = PreferenceLoss(load_model(tmp_path / "merged", dtype=torch.float32), beta=0.3)
    ids, answers, positions = columns_of(blocks)
    with torch.no_grad():
        loss = ours(ids, labels_of(blocks), positions, answers=answers, reference=reference)["loss"]
    measured = ours.measures()
    assert loss.item() < 0.6
    assert loss.item() == pytest.approx(theirs["eval_loss"], abs=1e-4)
    assert measured["margin"] == pytest.approx(theirs["eval_rewards/margins"], abs=1e-4)
    assert measured["accuracy"] == pytest.approx(theirs["eval_rewards/accuracies"])


def test_the_prompt_is_never_learned_and_both_answers_end(pico_base: Path) -> None:
    tokenizer = load_tokenizer(pico_base)
    tokenizer.chat_template = CHATML
    talk = (
        Message("user", "q"),
        Message("assistant", "earlier", learned=False),
        Message("user", "more"),
    )
    blocks = pack_preferences(tokenizer, DpoTexts([Preference(talk, "好", "bad")], []), SETTINGS)
    [sides] = sides_of(blocks)
    learned = [tokenizer.decode([one for one in labels if one != -100]) for _, labels in sides]
    assert learned == ["好<|im_end|>", "bad<|im_end|>"]


def test_a_pair_that_does_not_fit_is_left_out_and_counted(pico_base: Path) -> None:
    tokenizer = load_tokenizer(pico_base)
    tokenizer.chat_template = CHATML
    long = Preference(PAIRS[0].prompt, "山" * 200, "x")
    notes: list[Progress] = []
    texts = DpoTexts([long, *PAIRS[:3]], [])
    blocks = pack_preferences(tokenizer, texts, SETTINGS, tell=notes.append)
    assert pairs_of(blocks).sum() == 3
    assert notes[-1].note.startswith("of 4 pairs 1 do not fit into a block of 192 tokens")
    with pytest.raises(RecipeError, match=r"of 1 pairs 1 do not fit .* block_tokens"):
        pack_preferences(tokenizer, DpoTexts([long], []), SETTINGS)


@pytest.mark.slow
def test_the_command_reads_pairs_and_says_what_was_learned(pico_base: Path, tmp_path: Path) -> None:
    rows = [{"prompt": f"q{n}", "chosen": "好。", "rejected": "bad"} for n in range(4)]
    lines = [json.dumps(row) for row in [*rows, {"prompt": "q"}]]
    (tmp_path / "pairs.jsonl").write_text("\n".join(lines), encoding="utf-8")
    given = ["dpo", "--base", pico_base, "--preferences", tmp_path / "pairs.jsonl"]
    given += ["-o", tmp_path / "adapter", "--lora-rank", 4, "--block-tokens", 128]
    refused = CliRunner().invoke(app, [str(one) for one in given])
    assert isinstance(refused.exception, DataError)
    assert "pairs.jsonl:5: chosen is missing" in refused.exception.message
    done = CliRunner().invoke(app, [str(one) for one in [*given, "--skip-bad-rows"]])
    assert done.exit_code == 0, done.output
    assert "1 bad rows are left out" in done.output
    assert "of 4 pairs" in done.output
    assert (tmp_path / "adapter" / "chat_template.jinja").is_file()


def test_nothing_to_learn_is_said(pico_base: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no preference to learn from"):
        dpo(pico_base, [], tmp_path / "adapter", SETTINGS)


@pytest.mark.slow
def test_parts_of_a_step_are_the_step(pico_base: Path, tuned: Path, tmp_path: Path) -> None:
    """The pairs of a step are counted over all of its parts, uneven as they are."""
    parts = SETTINGS.model_copy(update={"accumulation_steps": 2, "gradient_checkpointing": True})
    dpo(pico_base, PAIRS, tmp_path / "adapter", parts)
    for one, other in zip(steps_in(tmp_path / "adapter"), steps_in(tuned), strict=True):
        assert one["loss"] == pytest.approx(other["loss"], abs=1e-4)
        assert one["pairs"] == other["pairs"]
