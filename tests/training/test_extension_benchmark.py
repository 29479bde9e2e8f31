"""benchmarks/extension_long.py: where two curves meet, and training in more than one sitting."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks import extension_arms, extension_long
from benchmarks.extension_arms import Arm, Material
from benchmarks.extension_levers import FlooredAdam, twin_rows
from benchmarks.extension_long import crossing, meeting, probed, slug, train_long
from hanpaca.model.load import load_tokenizer

LENGTHS = [40, 60, 100]


def curve(num_pieces: int, points: dict[int, float], *, seconds: float = 2.0) -> dict[str, object]:
    """An arm's file whose texts all have the same bits per character."""
    return {
        "arm": {"num_pieces": num_pieces, "seed": 0, "batch_blocks": 2},
        "heldout_characters": LENGTHS,
        "seconds_per_step": seconds,
        "characters_per_step": 100.0,
        "points": [
            {"step": step, "zh": bits, "heldout_bits": [bits * length for length in LENGTHS]}
            for step, bits in points.items()
        ],
    }


PLAIN = curve(0, {10: 8.0, 20: 7.5, 40: 7.0, 80: 6.5, 160: 6.0})


def test_a_gap_that_closes_between_two_places_is_met_there() -> None:
    place = crossing(np.array([10.0, 40.0, 160.0]), np.array([1.0, 0.5, -0.5]), 3)
    assert place == pytest.approx(80.0)


def test_a_gap_that_still_falls_is_drawn_on_as_a_line_over_the_logarithm() -> None:
    place = crossing(np.array([10.0, 20.0, 40.0]), np.array([1.5, 1.0, 0.5]), 3)
    assert place == pytest.approx(80.0)


def test_a_gap_that_grows_is_met_nowhere() -> None:
    assert crossing(np.array([10.0, 20.0, 40.0]), np.array([0.5, 0.6, 0.7]), 3) is None


def test_curves_that_have_not_met_say_so_and_where_they_would() -> None:
    behind = curve(1000, {10: 9.6, 20: 8.7, 40: 7.8, 80: 6.9})
    found = meeting(PLAIN, behind, "seconds", seed=0)
    assert found["met"] is None
    assert found["share_of_redraws_that_met"] == 0.0
    assert (found["last_common"], found["gap_there"]) == (160, 0.4)
    assert found["met_or_drawn_on"] == 320.0  # .4 of a bit at .4 a doubling, from 160 seconds
    assert found["interval"] == [320.0, 320.0]  # all texts are alike, so redraws are too


def test_curves_that_met_say_where() -> None:
    ahead = curve(1000, {10: 9.0, 20: 8.0, 40: 7.0, 80: 6.2})
    found = meeting(PLAIN, ahead, "seconds", seed=0)
    assert found["met"] == found["met_or_drawn_on"] == 80.0
    assert found["share_of_redraws_that_met"] == 1.0


def test_seconds_count_what_a_step_of_each_arm_takes() -> None:
    slower = curve(1000, {10: 8.5, 20: 8.0, 40: 7.5}, seconds=4.0)
    # Twice the seconds of a step: after 40 of its steps the plain arm has done 80.
    assert meeting(PLAIN, slower, "seconds", seed=0)["gap_there"] == 1.0


def test_probes_lie_evenly_on_the_logarithm_of_the_steps() -> None:
    assert [step for step in range(4_097) if probed(step)] == [
        *(10, 20, 40, 80, 120, 160, 240, 320, 480, 640, 960, 1280, 1920, 2560, 3840)
    ]


@pytest.mark.slow
def test_an_arm_in_two_sittings_is_the_arm_in_one(
    pico_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = [f"{number}号山中有水，水中有山，山水相逢在{number}月。" for number in range(120)]
    english = [f"The river number {number} runs to the sea." for number in range(60)]
    material = Material(pico_base, text, english, text[:6], english[:6])
    arm = Arm(8, rotated=True, shared_updates=True, output_row_learning_rate=1e-3)
    monkeypatch.setattr(extension_long, "MOST_STEPS", 4)
    monkeypatch.setattr(extension_long, "RESULTS", tmp_path)
    # Which type is faster is tried, and a busy machine may say one first and then the other.
    monkeypatch.setattr(extension_arms, "faster_dtype", lambda: torch.float32)
    found = []
    for name, sittings in (("one", [4]), ("two", [2, 4])):
        for num_steps in sittings:
            train_long(material, arm, tmp_path / name, num_steps)
        found.append(json.loads((tmp_path / f"{slug(arm)}.json").read_text()))
    one, two = found
    assert [point["step"] for point in one["points"]] == [4]
    assert [point["step"] for point in two["points"]] == [2, 4]
    assert two["points"][-1] == one["points"][-1]
    assert two["points"][0]["zh"] > two["points"][-1]["zh"]


def test_twins_are_the_rows_of_different_words_of_the_glosses(
    pico_base: Path, tmp_path: Path
) -> None:
    cedict = tmp_path / "cedict.txt"
    lines = ["山 山 [shan1] /mountain/hill/", "水 水 [shui3] /water/river/"]
    cedict.write_text("\n".join(lines), encoding="utf-8")
    tokenizer = load_tokenizer(pico_base)
    numbers = torch.arange(len(tokenizer), dtype=torch.float32)[:, None]
    twins = [int(one) for one in twin_rows(["山", "水", "山水"], tokenizer, numbers, cedict)]
    assert len(set(twins)) == 3
    for twin, glosses in zip(twins, (" mountain hill", " water river"), strict=False):
        parts = [
            i
            for word in glosses.split()
            for i in tokenizer.encode(f" {word}", add_special_tokens=False)
        ]
        assert twin in parts


def test_a_floor_of_no_share_is_adam() -> None:
    torch.manual_seed(0)
    ours, theirs = (nn.Parameter(torch.ones(3, 4)) for _ in range(2))
    ours.shares_n = torch.zeros(3)  # type: ignore[attr-defined]
    optimizers = (
        FlooredAdam([ours], lr=1e-2, weight_decay=0.0, betas=(0.9, 0.99)),
        torch.optim.AdamW([theirs], lr=1e-2, weight_decay=0.0, betas=(0.9, 0.99)),
    )
    for _ in range(5):
        gradient = torch.randn(3, 4)
        for parameter, optimizer in zip((ours, theirs), optimizers, strict=True):
            parameter.grad = gradient.clone()
            optimizer.step()
    torch.testing.assert_close(ours, theirs)


def test_rows_are_held_back_until_their_share_is_seen() -> None:
    parameter = nn.Parameter(torch.zeros(2, 1))
    parameter.shares_n = torch.tensor([0.5, 0.5])  # type: ignore[attr-defined]
    optimizer = FlooredAdam([parameter], lr=1.0, weight_decay=0.0, betas=(0.9, 0.99))
    parameter.grad = torch.tensor([[1.0], [1e-3]])
    optimizer.step()
    seen, unseen = parameter.detach()[:, 0].abs().tolist()
    assert seen == pytest.approx(1.0, rel=1e-3)
    assert unseen < 2e-3
