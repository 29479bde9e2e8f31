"""One scorer for models in any form: a folder in memory, a GGUF file in llama.cpp, or by layers."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from math import prod
from pathlib import Path
from shutil import disk_usage
from tempfile import TemporaryDirectory, gettempdir
from typing import Any

import torch
from torch import cpu
from transformers import PreTrainedTokenizerFast

from hanpaca.checkpoints.model import open_model
from hanpaca.data.templates import Writer
from hanpaca.errors import ArtifactError, RecipeError
from hanpaca.evals.choice.rules import ChoiceRequest, Choices, Scored
from hanpaca.evals.tasks.choice_settings import RunBy
from hanpaca.inference.choices import choices_of_gguf
from hanpaca.inference.engine import ChatModel
from hanpaca.memory import free_bytes
from hanpaca.model.choices import Answers, choices_of, rows_of
from hanpaca.model.load import CausalLM, load_model, load_tokenizer, start_token
from hanpaca.steps.layerwise import Blocks, LayerwiseModel, open_layerwise
from hanpaca.steps.write_gguf import gguf_to_folder

_ROOM = 64
"""Tokens of context beyond the longest prompt, for continuations."""
_BFLOAT16 = ("avx512_bf16", "amx_bf16", "bf16")
"""What processors that multiply bfloat16 say of themselves."""
_BYTES_OF_BFLOAT16, _SHARE_OF_MEMORY = 2, 3
Write = Callable[[Sequence[int], int, Sequence[str]], str]
"""Ids of a prompt, most tokens and texts to stop before, to what is written greedily."""


@dataclass(frozen=True)
class ChoiceReader:
    """A model that can be asked: its scorer, and how it reads text."""

    choices: Choices
    tokenizer: PreTrainedTokenizerFast
    context_tokens: int
    """Most that a prompt and a continuation may have together."""
    how: str
    """Program and number format."""
    write: Write

    def encode(self, text: str) -> list[int]:
        """Ids of a text without a start token."""
        return list(self.tokenizer.encode(text, add_special_tokens=False))

    def as_user(self, text: str) -> str:
        """The prompt of a conversation in which a user says a text; the model has its turn.

        A model without a chat template reads the text and a line end.
        """
        if not self.tokenizer.chat_template:
            return f"{text}\n"
        written = Writer.of(self.tokenizer).render([{"role": "user", "content": text}], True)
        return written.removeprefix(str(self.tokenizer.bos_token)) if self.start else written

    @property
    def start(self) -> tuple[int, ...]:
        """What the tokenizer puts before every text by itself: BOS, or nothing."""
        ids = list(self.tokenizer.encode(""))
        bos = self.tokenizer.bos_token_id
        return (int(bos),) if bos is not None and bos in ids else ()


def engine_for(model: Path, engine: RunBy, *, dtype: str) -> RunBy:
    """What `auto` is for this model on this machine.

    llama.cpp reads prompts at a third of the speed that transformers has where the processor
    multiplies bfloat16 (docs/log.md); but the weights have to be read back, to disk and to memory.
    """
    if model.is_dir():
        return "transformers"
    if engine != "auto" or not model.is_file():
        return engine
    if dtype != "bfloat16" or not any(cpu.get_capabilities().get(one) for one in _BFLOAT16):
        return "llama.cpp"
    weights = sum(map(prod, (one.shape for one in open_model(model).tensors.values())))
    needed = weights * _BYTES_OF_BFLOAT16
    room = min(free_bytes() / _SHARE_OF_MEMORY, float(disk_usage(gettempdir()).free))
    return "transformers" if needed <= room else "llama.cpp"


@contextmanager
def open_reader(
    model: Path,
    *,
    context_tokens: int = 2048,
    dtype: str = "bfloat16",
    engine: RunBy = "llama.cpp",
) -> Iterator[ChoiceReader]:
    """Open a model to ask it, for as long as the block lasts.

    Args:
        model: A Hugging Face folder, which transformers runs, or a GGUF file.
        context_tokens: Room for a question; no more than the model's own context is used.
        dtype: Of weights in memory, where transformers runs them: `bfloat16` or `float32`.
        engine: Of a GGUF file, as `engine_for` gives it. `transformers` reads its weights back;
            `layers` runs them one layer at a time in float32, slow, but without any rounding, as a
            check.

    Raises:
        ArtifactError: There is no model, or it cannot be run.
    """
    if model.is_dir():
        yield _in_memory(model, context_tokens, dtype, f"transformers, {dtype}")
        return
    if not model.is_file():
        raise ArtifactError(f"{model}: no such file or folder")
    if engine == "transformers":
        with TemporaryDirectory() as scratch:
            gguf_to_folder(model, Path(scratch) / "model")
            how = f"transformers, {dtype}, weights of the file read back"
            yield _in_memory(Path(scratch) / "model", context_tokens, dtype, how)
        return
    opened = open_layerwise(model)
    most = min(context_tokens, int(str(opened.config["max_position_embeddings"])))
    if engine == "layers":
        how = "weights of the file, float32, layer by layer"
        by_layers = partial(_by_layers, opened)
        yield ChoiceReader(by_layers, opened.tokenizer, most, how, _not_written)
        return
    with ChatModel(model, context_tokens=most + _ROOM) as loaded:
        scorer = choices_of_gguf(loaded, special=start_token(opened.tokenizer))
        write = partial(_written_by_gguf, loaded)
        yield ChoiceReader(scorer, opened.tokenizer, most, "llama.cpp", write)


def _in_memory(folder: Path, context_tokens: int, dtype: str, how: str) -> ChoiceReader:
    loaded = load_model(folder, dtype=getattr(torch, dtype))
    most = min(context_tokens, int(loaded.config.max_position_embeddings))
    tokenizer = load_tokenizer(folder)
    return ChoiceReader(
        choices_of(loaded), tokenizer, most, how, partial(_written, loaded, tokenizer)
    )


@torch.inference_mode()
def _by_layers(model: LayerwiseModel, asked: Sequence[ChoiceRequest]) -> list[Scored]:
    rows = rows_of(asked)
    answers, head_vd = Answers(asked), model.head()
    states = model.states(Blocks(tuple(row.ids for row in rows), 0))
    for row, state_td in zip(rows, states, strict=True):
        answers.take(row, state_td[-row.num_wanted :] @ head_vd.T)
    return answers.scored()


@torch.inference_mode()
def _written(
    model: CausalLM,
    tokenizer: PreTrainedTokenizerFast,
    ids: Sequence[int],
    max_tokens: int,
    stop: Sequence[str],
) -> str:
    ids_bt = torch.tensor([list(ids)], device=model.device)
    stopping: dict[str, Any] = {}
    if stop:
        stopping = {"stop_strings": list(stop), "tokenizer": tokenizer}
    told: Any = model.generate(  # type: ignore[misc]  # its own annotation of self
        ids_bt,
        attention_mask=torch.ones_like(ids_bt),
        max_new_tokens=max_tokens,
        do_sample=False,
        pad_token_id=start_token(tokenizer),
        **stopping,
    )
    text = str(tokenizer.decode(told[0, len(ids) :], skip_special_tokens=True))
    return text[: min((at for one in stop if (at := text.find(one)) >= 0), default=len(text))]


def _written_by_gguf(
    model: ChatModel, ids: Sequence[int], max_tokens: int, stop: Sequence[str]
) -> str:
    return model.write_on(ids, max_tokens=max_tokens, stop=stop)


def _not_written(ids: Sequence[int], max_tokens: int, stop: Sequence[str]) -> str:
    raise RecipeError("a model run layer by layer writes no text", "set {engine} to another")
