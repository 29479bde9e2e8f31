"""The sections of a recipe: every choice of a run, typed and with its meaning."""

import re
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, PrivateAttr, ValidationInfo, field_validator, model_validator

from hanpaca.choices import BUILTIN_TEXTS, TASK_SOURCES, TaskName
from hanpaca.choices import FileType as FileType
from hanpaca.languages import scripts_of_language
from hanpaca.lora_settings import LoraSettings as LoraSettings
from hanpaca.sections import RecipeSection, later, locate
from hanpaca.training_settings import MOST_SELF_REPLAY as MOST_SELF_REPLAY
from hanpaca.training_settings import DpoSettings as DpoSettings
from hanpaca.training_settings import NextTokenSettings as NextTokenSettings
from hanpaca.training_settings import PretrainSettings as PretrainSettings
from hanpaca.training_settings import SftSettings as SftSettings
from hanpaca.training_settings import TrainingSettings as TrainingSettings

# The material that comes with the package, by the field that may ask for it.
_BUILTIN = {
    "text": BUILTIN_TEXTS,
    "replay": ("builtin:docstrings",),
    "instructions": BUILTIN_TEXTS,
}


class DataSettings(RecipeSection):
    """What is read: text and conversations of the new language, and text of the old one."""

    text: tuple[str, ...] = Field(default=(), examples=[["text"]])
    """Text of the new language: files (.txt, .md, .jsonl, .ndjson, .parquet; also packed: .gz,
    .bz2, .xz, .zst) or folders of them, relative to this recipe, data sets of the hub
    (`hub:owner/name[:config][:split]`), or words for what installed packages hold:
    `builtin:idioms`, `laws`, `words`, `cloud`, `interface` (docs/data.md). Needed by `tokenizer`
    and `pretrain`; where there is none, the answers held out are what is measured."""
    encoding: str = "utf-8"
    """Encoding of the text files, by its Python name, e.g. `utf-8` or `gb18030`."""
    text_field: str = "text"
    """Field of a .jsonl line, or column of a .parquet file, that holds the text."""
    replay: tuple[str, ...] = ("builtin:docstrings",)
    """Text of the old language, mixed into training so that it is not forgotten: files or folders,
    or `builtin:docstrings` for English from the documentation of installed packages."""
    instructions: tuple[str, ...] = Field(default=(), examples=[["instructions.jsonl"]])
    """Conversations that `sft` learns from: files (.json, .jsonl, .csv, .parquet; packed or not) or
    folders of them, of the hub as `text`, or the words that `text` may hold."""
    preferences: tuple[str, ...] = later((), examples=[["preferences.jsonl"]])
    """Pairs of a better and a worse answer that `dpo` learns from: files (.json, .jsonl, .csv,
    .parquet; packed or not) or folders of them."""
    skip_bad_rows: bool = later(False)
    """Leave malformed rows of the conversations and preferences out and count them, instead of
    stopping at the first."""
    heldout_documents: int = Field(default=300, ge=0)
    """Documents kept out of all learning, the tokenizer's too: only the evaluation reads them."""
    heldout_questions: int = Field(default=100, ge=0)
    """Questions (conversations) kept out of all learning, for the evaluation only."""

    @field_validator(*_BUILTIN)
    @classmethod
    def _only_known_words(cls, names: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        known = _BUILTIN[str(info.field_name)]
        for name in names:
            if name.startswith("builtin:") and name not in known:
                words = " or ".join(map(repr, known))
                raise ValueError(f"{name!r} does not come with hanpaca; here it can be {words}")
        return names

    @model_validator(mode="after")
    def _questions_come_from_documents(self) -> Self:
        builtin = any(name.startswith("builtin:") for name in self.instructions)
        if builtin and self.heldout_questions > self.heldout_documents:
            raise ValueError(
                f"heldout_questions ({self.heldout_questions}) must not exceed heldout_documents "
                f"({self.heldout_documents}): builtin questions are about the held-out documents"
            )
        return self


class TokenizerSettings(RecipeSection):
    """The pieces added to the base vocabulary."""

    num_pieces: int = Field(ge=0, examples=[8000])
    """Pieces to add, all of them used; 0 leaves the vocabulary as it is."""
    scripts: tuple[str, ...] = ()
    """Unicode scripts that new pieces may be written in, e.g. `Han`, `Hiragana`, `Hangul`; text
    without their characters (and, see `punctuation`, signs) keeps its tokens exactly. Where none is
    named, they are those of `language`, such as Han of `zh`, or else guessed from the text."""
    punctuation: Literal["none", "runs", "with_text"] = "none"
    """What of the scripts' punctuation new pieces may hold: nothing, `runs` of it alone, or
    `with_text` beside letters: shorter, but punctuation next to words joins."""
    required: str | None = None
    """File of characters that must be one token each, such as a national standard's list."""
    prior: str | None = None
    """Published pieces to learn from beside the text: a SentencePiece `.model`, or lines of a
    piece, a tab and the logarithm of its probability."""
    protect: tuple[str, ...] = ()
    """Text that must keep its tokens, files or folders read as `data.text` is; needed for scripts
    that English uses too, such as Latin."""


TIED_TWINS = (
    "the base's head is its embedding: without a head of its own each twin takes half of its "
    "English word's probability"
)


class RowsSettings(RecipeSection):
    """How the embedding and head rows of the new pieces start."""

    input: Literal["mean", "mean_of_all", "normal", "twin"] = "mean"
    """Embedding rows: `mean` of the base rows that spelled the piece before, the mean of all rows,
    draws from a normal distribution with the mean and covariance of all rows, or with `twin` the
    row of an English word, another one for each piece, that `dictionary` has as its translation."""
    output: Literal["mean", "mean_of_all", "normal", "first_piece", "twin"] = "first_piece"
    """Head rows, where the head is no table of the embedding: as above, shifted with `twin` to how
    frequent the piece is; or with `first_piece` the row of the first of the base pieces, shifted so
    that its logit falls by how rarely the rest of the piece follows (a log-frequency)."""
    dictionary: str | None = later(None)
    """For `twin`: a dictionary into English, as CC-CEDICT is written or lines of a word, a tab and
    its translations; `builtin:cedict` is CC-CEDICT out of a package."""
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

    @property
    def twins(self) -> bool:
        """Whether rows start as those of English words."""
        return "twin" in (self.input, self.output)

    @field_validator("dictionary")
    @classmethod
    def _only_one_comes_along(cls, name: str | None) -> str | None:
        if name and name.startswith("builtin:") and name != "builtin:cedict":
            raise ValueError(f"{name!r} does not come with hanpaca; here it can be builtin:cedict")
        return name

    @model_validator(mode="after")
    def _twins_are_looked_up(self) -> Self:
        if self.twins and self.dictionary is None:
            raise ValueError("twin needs a dictionary: name a file, or builtin:cedict for Chinese")
        if self.dictionary is not None and not self.twins:
            raise ValueError(
                "dictionary is for rows that start as twins: set input and output to twin"
            )
        return self


class GgufSettings(RecipeSection):
    """The files for llama.cpp, Ollama and the chat."""

    types: tuple[FileType, ...] = Field(default=("f16", "q8_0", "q4_k_m"), min_length=1)
    """One GGUF file is written for each type; all in one reading of the model."""


class EvalSettings(RecipeSection):
    """How much is measured; more is slower and has narrower error bars."""

    num_questions: int = Field(default=100, ge=0)
    """Held-out questions that every model answers."""
    heldout_characters: int = Field(default=8_000, ge=1)
    """Characters of held-out text of the new language to measure bits per character on."""
    english_characters: int = Field(default=20_000, ge=1)
    """Characters of English text to measure forgetting on."""
    max_answer_tokens: int = Field(default=128, ge=1)
    """Tokens after which an answer is cut off."""
    english_questions: bool = later(False)
    """Ask base and final model 64 short English questions, and show which answers were lost."""
    tasks: tuple[TaskName, ...] = later(())
    """Questions on held-out items of the builtin texts, whose answers a program judges
    (docs/eval.md); `data` then adds instructions of the same form, made of what is learned."""
    num_task_questions: int = later(200, ge=1)
    """Questions of each task, asked of the base and of the final model."""
    notes: tuple[str, ...] = ()
    """Sentences for the report: what its reader should know beside the numbers."""


class Recipe(RecipeSection):
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
    data: DataSettings
    """What is read."""
    tokenizer: TokenizerSettings | None = None
    """The pieces added to the base vocabulary; left out, training starts from the base itself."""
    rows: RowsSettings = RowsSettings()
    """How the embedding and head rows of the new pieces start."""
    pretrain: PretrainSettings | None = None
    """Continued pretraining on plain text; left out, there is none."""
    sft: SftSettings | None = None
    """Instruction tuning on conversations; left out, there is none."""
    dpo: DpoSettings | None = None
    """Preference tuning on pairs of answers; left out, there is none."""
    gguf: GgufSettings = GgufSettings()
    """The files for llama.cpp, Ollama and the chat."""
    eval: EvalSettings = EvalSettings()
    """What is measured at the end."""
    _folder: Path = PrivateAttr(default=Path())

    @field_validator("base")
    @classmethod
    def _package_base_names_a_file(cls, base: str) -> str:
        if base.startswith("package:") and not re.fullmatch(r"package:[A-Za-z_]\w*/.+", base):
            raise ValueError(f"{base!r}: write it as package:NAME/FILE")
        return base

    @model_validator(mode="before")
    @classmethod
    def _scripts_of_the_language(cls, tree: Any) -> Any:  # noqa: ANN401  # whatever YAML held
        if not isinstance(tree, dict) or not isinstance(tree.get("tokenizer"), dict):
            return tree
        scripts = scripts_of_language(str(tree.get("language", "zh")))
        given = tree["tokenizer"].get("scripts") or scripts
        return {**tree, "tokenizer": {**tree["tokenizer"], "scripts": given}}

    @model_validator(mode="after")
    def _sections_agree(self) -> Self:
        if self.base_sha256 is not None and not self.base.endswith(".gguf"):
            raise ValueError(f"base_sha256 can only be checked for a .gguf base, not {self.base!r}")
        for name, section in (("pretrain", self.pretrain), ("sft", self.sft)):
            if section and section.replay_fraction > 0 and not self.data.replay:
                raise ValueError(
                    f"{name}.replay_fraction is {section.replay_fraction:g}, but data.replay is "
                    "empty; list some text there, or set the fraction to 0"
                )
        if self.rows.output == "twin" and not self.data.replay:
            raise ValueError(
                "rows.output: twins have to be kept out of the old language, but data.replay is "
                "empty; list some text there"
            )
        if self.eval.num_questions > self.data.heldout_questions:
            raise ValueError(
                f"eval.num_questions ({self.eval.num_questions}) must not exceed "
                f"data.heldout_questions ({self.data.heldout_questions})"
            )
        return self

    @model_validator(mode="after")
    def _dictionary_is_of_the_language(self) -> Self:
        first = self.language.lower().partition("-")[0]
        if self.rows.dictionary == "builtin:cedict" and first not in ("zh", "yue", "lzh"):
            raise ValueError(
                f"rows.dictionary: builtin:cedict is of Chinese, and language is "
                f"{self.language!r}: name a file with a dictionary of that language into English"
            )
        return self

    @model_validator(mode="after")
    def _tasks_have_their_texts(self) -> Self:
        named = (*self.data.text, *self.data.instructions)
        for task in self.eval.tasks:
            if TASK_SOURCES[task] not in named:
                raise ValueError(
                    f"eval.tasks: {task} is about {TASK_SOURCES[task]}; list that in data.text or "
                    "data.instructions"
                )
        return self

    @model_validator(mode="after")
    def _what_is_learned_is_given(self) -> Self:
        data, learned = self.data, [self.pretrain, self.sft, self.dpo]
        if not any(learned):
            raise ValueError("nothing is trained: add the section pretrain, sft or dpo")
        for name in ("tokenizer", "pretrain"):
            if getattr(self, name) and not data.text:
                raise ValueError(
                    f"{name} learns from text, but data.text is empty; list some there, or leave "
                    f"{name} out"
                )
        weights = self.pretrain.weights if self.pretrain else ()
        if weights and len(weights) != len(data.text):
            raise ValueError(
                f"pretrain.weights are {len(weights)} for the {len(data.text)} paths of data.text: "
                "give one for each"
            )
        if (self.sft is None) == bool(data.instructions):
            raise ValueError(
                "data.instructions are what sft learns from: give both, or neither of them"
            )
        if (self.dpo is None) == bool(data.preferences):
            raise ValueError(
                "data.preferences are what dpo learns from: give both, or neither of them"
            )
        if not (data.text or data.instructions):
            raise ValueError(
                "there is nothing to measure on: list text of the language in data.text"
            )
        if self.tokenizer is None and self.rows != RowsSettings():
            raise ValueError(
                "rows are those of new pieces: add the section tokenizer, or leave rows out"
            )
        return self

    def locate(self, name: str) -> Path:
        """Say where a file named in this recipe is; see the function `locate`."""
        return locate(name, folder=self._folder)
