"""The choices of trainings: pretraining, instruction tuning, preference tuning."""

from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from hanpaca.choices import TemplateName
from hanpaca.lora_settings import LoraSettings
from hanpaca.sections import RecipeSection, later

MOST_SELF_REPLAY = 234
"""As many questions come with the package."""


class TrainingSettings(RecipeSection):
    """What all trainings have in common."""

    train: tuple[Literal["lora", "new_rows", "embedding", "head", "all"], ...] = later(
        ("lora", "new_rows"), min_length=1
    )
    """What is trained: `lora` is the adapters of `lora`, `new_rows` the rows of new pieces, where
    there are any, `embedding` and `head` all rows of these tables, new and old; `all` is every
    weight, and then a whole model is written in place of an adapter."""
    block_tokens: int = Field(default=256, ge=16)
    """Tokens of a training sequence."""
    batch_blocks: int = Field(default=2, ge=1)
    """Blocks a step."""
    learning_rate: float = Field(default=2e-4, gt=0)
    """Peak learning rate of the adapters; where all weights are trained, theirs."""
    row_learning_rate: float = Field(default=1e-3, gt=0)
    """Peak learning rate of trained rows."""
    row_updates: Literal["apart", "together"] = later("apart")
    """How the rows of new pieces move: each by itself; or `together`, both rows of a piece by the
    same updates, along the principal axes of what the head reads, so that what is learned where a
    piece is read counts where it is predicted."""
    warmup_fraction: float = Field(default=0.05, ge=0, lt=1)
    """Share of the steps in which the learning rates rise from 0 to their peak."""
    schedule: Literal["cosine", "linear", "constant", "warmup_stable_decay"] = "cosine"
    """How the learning rates fall after the warm-up; with `warmup_stable_decay` only at the end."""
    decay_fraction: float = later(0.2, gt=0, le=1)
    """Share of the steps in which the rates fall, under `warmup_stable_decay`."""
    min_rate_fraction: float = later(0.0, ge=0, le=1)
    """Share of their peak that the learning rates do not fall below after the warm-up."""
    weight_decay: float = later(0.0, ge=0)
    """Share of a trained weight that is taken off in each step, times the learning rate."""
    accumulation_steps: int = later(1, ge=1)
    """Parts that the blocks of a step are computed in, one after the other: the same step in less
    memory."""
    gradient_checkpointing: bool = later(False)
    """Compute each layer a second time instead of keeping what it gave: the same step in less
    memory, about a third slower."""
    neftune_alpha: float = later(0.0, ge=0)
    """Noise on what the embedding gives in training: uniform, of this over the root of tokens times
    width (NEFTune, arXiv 2310.05914, where 5 does well for conversations)."""
    lora: LoraSettings = LoraSettings()
    """The adapters."""
    dtype: Literal["auto", "bfloat16", "float32"] = "auto"
    """Type of the frozen weights while training; what is trained is float32 anyway. `auto` tries
    which one this machine multiplies faster."""
    checkpoint_steps: int = Field(default=50, ge=1)
    """Steps between checkpoints: the most work that an interruption can lose."""
    sample_steps: int = Field(default=50, ge=1)
    """Steps between samples of the model's own text in the log."""
    probed_texts: int = later(16, ge=1)
    """Held-out texts of a run that are scored each `sample_steps`, in pretraining and instruction
    tuning half as many of the old language too; and those that pretraining by itself holds out."""
    sharding: Literal["none", "full"] = later("none")
    """Where several processes train: each holds the whole model, or with `full` a part of every
    weight (FSDP2); the model is not probed then."""
    attention: Literal["auto", "grouped", "eager", "sdpa", "flex", "flash"] = later("auto")
    """How attention is computed: `grouped` is our own for CPUs, `flex` needs a GPU, `flash` one and
    the package flash-attn, the others run anywhere. `auto` is `grouped` on a CPU and `sdpa` on a
    GPU."""
    quantize_base: Literal["none", "8bit", "nf4"] = later("none")
    """Keep the frozen matrices beside the adapters in 8 bits or in 4 (`nf4`, QLoRA) while training,
    with bitsandbytes; what is merged is merged into the base as it is."""
    device_map: Literal["none", "auto"] = later("none")
    """With `auto` one process lays the layers out over all GPUs of the machine, for a base that is
    too large for one of them."""
    compile: bool = later(False)
    """Let torch.compile make kernels of the layers: slower to start, faster after."""
    trackers: tuple[Literal["tensorboard", "wandb", "mlflow", "swanlab"], ...] = Field(
        default=(), exclude=True
    )
    """Where each step is sent to as well, by transformers; the package of each has to be there."""

    @property
    def whole(self) -> bool:
        """Whether every weight is trained, so that a model comes of it and no adapter."""
        return "all" in self.train

    @model_validator(mode="after")
    def _trained_is_named_once(self) -> Self:
        words = set(self.train)
        if self.whole and len(words) > 1:
            raise ValueError("train: `all` is everything: leave the other words out")
        if "new_rows" in words and words & {"embedding", "head"}:
            raise ValueError(
                "train: embedding and head have the new rows among theirs: leave new_rows out"
            )
        if "lora" not in words and self.lora != LoraSettings():
            raise ValueError("train: there is no `lora` in it, so leave the settings of lora out")
        return self

    @model_validator(mode="after")
    def _kept_in_few_bits(self) -> Self:
        few = self.quantize_base != "none"
        if few and "lora" not in self.train:
            raise ValueError("quantize_base is of the matrices beside adapters: leave it out")
        if few and self.lora.dora:
            raise ValueError("dora needs the rows' lengths: leave it or quantize_base out")
        if few and self.sharding != "none":
            raise ValueError(
                "a base in few bits is not sharded: leave sharding or quantize_base out"
            )
        if self.row_updates == "together" and "new_rows" not in self.train:
            raise ValueError("row_updates is of new rows: name new_rows in train, or leave it out")
        if self.row_updates == "together" and self.sharding != "none":
            raise ValueError("rows in shards move apart: leave sharding or row_updates out")
        if self.sharding != "none" and self.device_map != "none":
            raise ValueError("sharding and device_map place the same weights: leave one out")
        return self

    @model_validator(mode="after")
    def _parts_are_equal(self) -> Self:
        if self.batch_blocks % self.accumulation_steps:
            raise ValueError(
                f"batch_blocks ({self.batch_blocks}) cannot be computed in accumulation_steps "
                f"({self.accumulation_steps}) equal parts"
            )
        return self


class NextTokenSettings(TrainingSettings):
    """What pretraining and instruction tuning have in common."""

    num_tokens: int = Field(gt=0, examples=[2_000_000])
    """Training tokens in all, replay included; the number of steps follows from it."""
    replay_fraction: float = Field(default=0.1, ge=0, lt=1)
    """Share of the blocks that is text of the old language."""
    max_replay_rise: float = later(0.0, ge=0)
    """Share by which held-out text of the old language may come to take more bits per character
    than before the training; it is looked at each `sample_steps`. 0 sets no bound."""
    on_replay_rise: Literal["stop", "raise_replay", "keep_best"] = later("stop")
    """What follows where it takes more: the training ends; or replay gets twice its share of the
    blocks to come, each time, up to half; or all is trained, and of the adapters looked at the one
    within the bound is kept that is best in the new language (where none is within, the one that is
    best in the old)."""

    @model_validator(mode="after")
    def _at_least_one_step(self) -> Self:
        step_tokens = self.block_tokens * self.batch_blocks
        if self.num_tokens < step_tokens:
            raise ValueError(
                f"num_tokens ({self.num_tokens}) is less than one step of "
                f"block_tokens x batch_blocks = {step_tokens} tokens"
            )
        return self

    @model_validator(mode="after")
    def _a_bound_is_watched(self) -> Self:
        if self.on_replay_rise != "stop" and not self.max_replay_rise:
            raise ValueError(
                f"on_replay_rise {self.on_replay_rise} needs a bound: set max_replay_rise"
            )
        if self.on_replay_rise == "raise_replay" and not self.replay_fraction:
            raise ValueError("on_replay_rise raise_replay needs a replay_fraction above 0")
        return self


class PretrainSettings(NextTokenSettings):
    """Continued pretraining on plain text: the new rows and LoRA adapters learn the language."""

    weights: tuple[float, ...] = later(())
    """Of each path of the text, in order: its share in what is learned, whatever its size; a path
    that is used up is gone round again. Without weights each has the share of its size."""
    documents: Literal["apart", "joined"] = later("apart")
    """How documents become blocks: `apart`, each between its start and end tokens, unseen by the
    others of its block; or `joined` one after the other without end tokens and cut where a block is
    full, as the Chinese-LLaMA-Alpaca scripts do, so that they do see each other."""
    overlap_tokens: int = later(0, ge=0)
    """Of documents longer than a block: tokens that each further part begins with, from the end of
    the part before. They are read and not learned again; with 0 a part begins without what stood
    before it."""

    @field_validator("weights")
    @classmethod
    def _every_source_is_learned(cls, weights: tuple[float, ...]) -> tuple[float, ...]:
        if any(weight <= 0 for weight in weights):
            raise ValueError("each must be above 0; leave a path out that is not to be learned")
        return weights

    @model_validator(mode="after")
    def _parts_go_on(self) -> Self:
        if self.overlap_tokens > self.block_tokens // 2:
            raise ValueError(
                f"overlap_tokens ({self.overlap_tokens}) must be at most half of block_tokens "
                f"({self.block_tokens})"
            )
        if self.overlap_tokens and self.documents == "joined":
            raise ValueError("overlap_tokens is for documents that are apart, not joined")
        return self


class SftSettings(NextTokenSettings):
    """Instruction tuning: the model learns to answer."""

    template: TemplateName = "base"
    """How a conversation is written: `base` is the base model's own chat template, the others are
    told apart in docs/chat.md."""
    self_replay_conversations: int = later(0, ge=0, le=MOST_SELF_REPLAY)
    """General English questions (of 234 that come with the package) that the base answers before
    the training, to learn its own answers again: what it could do stays, without other data."""
    self_replay_fraction: float = later(0.1, gt=0, lt=1)
    """Share of the blocks that is these answers, where there are any."""

    @model_validator(mode="after")
    def _something_new_is_learned(self) -> Self:
        both = self.replay_fraction + self.self_replay_fraction
        if self.self_replay_conversations and both >= 1:
            raise ValueError(
                f"replay_fraction + self_replay_fraction is {both:g}: lower them; nothing is "
                "left for the conversations"
            )
        return self


class DpoSettings(TrainingSettings):
    """Preference tuning: of two answers, the model learns to prefer the better one."""

    beta: float = Field(default=0.1, gt=0)
    """How much it costs to leave the model that training starts from: less beta, further away."""
    num_epochs: int = Field(default=1, ge=1)
    """How often every pair is seen."""
    block_tokens: int = Field(default=1024, ge=16)
    """Tokens of a training sequence; a prompt with one answer and again with the other must fit."""
    learning_rate: float = Field(default=1e-5, gt=0)
    """Peak learning rate of the adapters; preferences take far less than instructions."""
    template: TemplateName = "base"
    """How a conversation is written: `base` is the base model's own chat template, the others are
    told apart in docs/chat.md."""

    @model_validator(mode="after")
    def _on_one_device(self) -> Self:
        if self.sharding != "none":
            raise ValueError("preferences are not learned in shards: set sharding to none")
        if self.device_map != "none":
            raise ValueError("preferences are learned on one device: set device_map to none")
        return self
