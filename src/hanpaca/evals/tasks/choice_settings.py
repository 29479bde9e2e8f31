"""What is chosen about questions with options."""

from typing import Literal

from pydantic import Field

from hanpaca.evals.choice.rules import Rule
from hanpaca.sections import RecipeSection

RunBy = Literal["auto", "llama.cpp", "transformers", "layers"]


class ChoiceSettings(RecipeSection):
    """How questions with options are asked, and how an option is picked."""

    rule: Rule = "letter"
    """What is compared: log p of the one token of a `letter`; `reference` and `paper` as the
    Chinese-LLaMA-Alpaca project's script and paper; `lm-eval` as lm-evaluation-harness (a space and
    the letter); the `text` of an option a character, or `text-sum` as a whole."""
    shots: int = Field(default=0, ge=0, le=100)
    """Solved examples of its subject before each question; they are dropped, the first first, where
    a prompt gets too long."""
    wording: Literal["auto", "zh", "alpaca", "en", "chat"] = "auto"
    """The words around a question: the reference's for a base model (`zh`) or a tuned one
    (`alpaca`), MMLU's (`en`), or the model's own chat template (`chat`); `auto` takes those of the
    set, or of the questions' language."""
    context_tokens: int = Field(default=2048, ge=64)
    """Most tokens of a prompt."""
    dtype: Literal["bfloat16", "float32"] = "bfloat16"
    """Of weights in memory, where transformers runs them; llama.cpp runs files as they are."""
    engine: RunBy = "auto"
    """What runs a GGUF file: `llama.cpp`; `transformers`, with its weights read back, which reads
    prompts faster where the processor multiplies bfloat16; `auto`, the faster of these for which
    there is memory; or `layers`, its weights layer by layer in float32, a slow check."""
