"""llama.cpp, asked by ids, says what transformers says of the same weights."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from hanpaca.evals.choice.rules import ChoiceRequest, Scored
from hanpaca.inference.choices import choices_of_gguf
from hanpaca.inference.engine import ChatModel
from hanpaca.model.choices import choices_of
from hanpaca.model.load import load_model
from hanpaca.steps.choice_scorers import open_reader
from hanpaca.steps.write_gguf import folder_to_gguf

LETTERS = ((36,), (37,), (38,), (39,))


def questions(number: int) -> list[ChoiceRequest]:
    generator = torch.Generator().manual_seed(0)
    begin = torch.randint(3, 300, (20,), generator=generator).tolist()
    return [
        ChoiceRequest(
            (*begin, *torch.randint(3, 300, (5 + at % 40,), generator=generator).tolist()),
            (*LETTERS, (50, 60)),
        )
        for at in range(number)
    ]


@pytest.fixture(scope="module")
def both(
    pico_untied: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[list[Scored], list[Scored], list[Scored], list[Scored]]:
    """Of transformers and llama.cpp: questions, and such as need the sum over the vocabulary."""
    file = tmp_path_factory.mktemp("gguf") / "f32.gguf"
    folder_to_gguf(pico_untied, file, file_type="f32", metadata={})
    exact = choices_of(load_model(pico_untied, dtype=torch.float32))
    asked = questions(100)
    summed = [ChoiceRequest(one.prompt, one.candidates[:4], with_sum=True) for one in asked[:10]]
    with ChatModel(file, context_tokens=256, num_threads=1) as model:
        scorer = choices_of_gguf(model, special=1)
        return exact(asked), scorer(asked), exact(summed), scorer(summed)


def _picks(found: Sequence[Scored]) -> list[int]:
    return [one.log_ps.index(max(one.log_ps[:4])) for one in found]


def test_log_probabilities_are_those_of_transformers(
    both: tuple[list[Scored], ...],
) -> None:
    exact, found, *_ = both
    for one, other in zip(exact, found, strict=True):
        assert other.log_ps == pytest.approx(one.log_ps, abs=2e-2)
        assert other.greedy == one.greedy
    same = sum(a == b for a, b in zip(_picks(exact), _picks(found), strict=True))
    assert same >= 99
    assert len(set(_picks(exact))) > 1


def test_logits_are_found_though_llama_cpp_does_not_tell_them(
    both: tuple[list[Scored], ...],
) -> None:
    *_, exact, found = both
    for one, other in zip(exact, found, strict=True):
        assert other.log_sum == pytest.approx(one.log_sum, abs=2e-2)


def test_the_weights_read_layer_by_layer_say_the_same(
    pico_untied: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    file = tmp_path_factory.mktemp("gguf") / "f32.gguf"
    folder_to_gguf(pico_untied, file, file_type="f32", metadata={})
    asked = questions(3)
    with (
        open_reader(pico_untied, dtype="float32") as one,
        open_reader(file, engine="layers") as other,
    ):
        assert (one.context_tokens, one.start) == (other.context_tokens, other.start)
        for exact, found in zip(one.choices(asked), other.choices(asked), strict=True):
            assert found.log_ps == pytest.approx(exact.log_ps, abs=1e-4)
