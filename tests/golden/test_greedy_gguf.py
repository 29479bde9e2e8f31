"""The F16 file says in llama.cpp what the model says in transformers."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest

PROMPTS = (
    "The capital of France is",
    "Once upon a time, in a small village",
    "def fibonacci(n):",
    "The three laws of motion say that",
    "Water boils at",
    "To make a cup of tea, first",
    "In 1969 the first people",
    "The best way to learn a language is",
    "Photosynthesis is the process by which",
    "Dear Sir or Madam,",
    "import numpy as np\n\n",
    "Shakespeare wrote",
    "1, 2, 3, 4,",
    "The difference between a virus and a bacterium is",
    "<html>\n<head>",
    "SELECT name FROM",
    "My favourite season is",
    "The moon goes around",
    "Q: What is 7 times 8?\nA:",
    "A healthy breakfast has",
    "He opened the door and saw",
    "The stock market",
    "白日依山尽",
    "<|im_start|>user\nWhy is the sky blue?<|im_end|>\n<|im_start|>assistant\n",
)
NUM_TOKENS = 24
CLOSE = 0.1
"""Between the two largest logits: llama.cpp rounds activations to F16 before each product."""


@dataclass(frozen=True)
class Greedy:
    text: str
    margins: tuple[tuple[str, float], ...]
    """The text up to each token, and how far that token was ahead of the second."""

    def margin_of_departure(self, other: str) -> float:
        """How close the decision was at which the other text goes its own way."""
        return next(margin for text, margin in self.margins if not other.startswith(text))


def write_with_transformers(folder: Path) -> list[Greedy]:
    import torch

    from hanpaca.model.load import load_model, load_tokenizer

    model, tokenizer = load_model(folder, dtype=torch.float32), load_tokenizer(folder)
    tokenizer.padding_side = "left"
    inputs = tokenizer(list(PROMPTS), return_tensors="pt", padding=True, add_special_tokens=False)
    ends = [tokenizer.convert_tokens_to_ids(end) for end in ("<|im_end|>", "<|endoftext|>")]
    with torch.inference_mode():
        found = cast(Any, model).generate(
            **inputs,
            max_new_tokens=NUM_TOKENS,
            do_sample=False,
            eos_token_id=ends,
            output_logits=True,
            return_dict_in_generate=True,
        )
    written = found.sequences[:, inputs["input_ids"].shape[1] :].tolist()
    best = torch.stack(found.logits, dim=1).topk(2, dim=-1).values
    margins = (best[..., 0] - best[..., 1]).tolist()
    answers = []
    for ids, leads in zip(written, margins, strict=True):
        num = next((n for n, one in enumerate(ids) if one in ends), len(ids))
        texts = [str(tokenizer.decode(ids[: n + 1])).rstrip("\ufffd") for n in range(num)]
        steps = zip(texts, leads[:num], strict=True)
        answers.append(Greedy(texts[-1] if texts else "", tuple(steps)))
    return answers


@pytest.mark.slow
def test_greedy_text_of_the_f16_file_is_that_of_transformers_in_float32(
    smollm2_gguf: Path, tmp_path: Path
) -> None:
    from hanpaca.inference.engine import ChatModel
    from hanpaca.steps.write_gguf import folder_to_gguf, gguf_to_folder

    folder, file = tmp_path / "smollm2", tmp_path / "smollm2.f16.gguf"
    gguf_to_folder(smollm2_gguf, folder)
    folder_to_gguf(folder, file, file_type="f16", metadata={})
    expected = write_with_transformers(folder)
    with ChatModel(file, context_tokens=256) as model:
        found = [
            model.complete(prompt, max_tokens=NUM_TOKENS, repeat_penalty=1.0).text
            for prompt in PROMPTS
        ]
    departures = [
        greedy.margin_of_departure(text)
        for greedy, text in zip(expected, found, strict=True)
        if greedy.text != text
    ]
    # All 24 were equal when this was written, with decisions as close as 0.002.
    assert len(departures) <= 2
    assert all(margin < CLOSE for margin in departures)
