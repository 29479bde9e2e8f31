"""Open a Llama-style causal language model and its tokenizer from a local folder."""

from pathlib import Path
from typing import cast

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoTokenizer,
    LlamaForCausalLM,
    MistralForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)
from transformers.utils import logging as transformers_logging

from hanpaca.checkpoints.headers import TOKENIZER_FILES
from hanpaca.checkpoints.model import open_model
from hanpaca.errors import ArtifactError
from hanpaca.files import check_small

transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # callers tell progress
CausalLM = LlamaForCausalLM
_SMALL = ("config.json", "generation_config.json")
_UNREADABLE = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    OSError,
    RecursionError,
    SafetensorError,
    StrictDataclassError,
    TypeError,
    ValueError,
)
"""What transformers raises over the content of a damaged file."""
ARCHITECTURES: dict[str, type[PreTrainedModel]] = {
    "llama": LlamaForCausalLM,
    "mistral": MistralForCausalLM,
}


def load_model(folder: Path, *, dtype: torch.dtype = torch.bfloat16) -> CausalLM:
    """Load the weights of a Hugging Face folder, frozen, in `dtype`, on the CPU.

    Args:
        folder: Holds `config.json` and safetensors or `.bin` weights.
        dtype: Type of every weight in memory.

    Raises:
        ArtifactError: The folder holds no Llama-style model, its weights are damaged, or a weight
            is missing or unknown to the architecture.
    """
    if not (folder / "config.json").is_file():
        raise ArtifactError(f"{folder}: no config.json: give a Hugging Face model folder")
    for name in _SMALL:
        if (folder / name).exists():
            check_small(folder / name)
    try:
        model_type = AutoConfig.from_pretrained(folder, local_files_only=True).model_type
    except _UNREADABLE as error:
        raise ArtifactError(f"{folder / 'config.json'}: cannot be read: {_told(error)}") from error
    if model_type not in ARCHITECTURES:
        raise ArtifactError(
            f"{folder / 'config.json'}: model_type {model_type!r} is not a Llama-style model; "
            f"known: {', '.join(sorted(ARCHITECTURES))}"
        )
    stored = open_model(folder).tensors.values()
    try:
        loaded = ARCHITECTURES[model_type].from_pretrained(
            folder,
            dtype=dtype,
            local_files_only=True,
            use_safetensors=next(iter(stored)).file.suffix == ".safetensors",
            weights_only=True,
            output_loading_info=True,
        )
    except (*_UNREADABLE, RuntimeError) as error:
        raise ArtifactError(f"{folder}: the weights cannot be loaded: {_told(error)}") from error
    model, info = cast(tuple[CausalLM, dict[str, set[str]]], loaded)
    # Transformers only warns and goes on: with random numbers, or without the weight.
    for fault, told in (("missing_keys", "is missing"), ("unexpected_keys", "has no place")):
        if names := sorted(info[fault]):
            raise ArtifactError(
                f"{folder}: the weight {names[0]} {told} in a model as config.json describes it: "
                "the folder is incomplete or of another model"
            )
    return cast(CausalLM, model.train(False).requires_grad_(False))


def load_tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    """Load `tokenizer.json` and its settings from a folder.

    Raises:
        ArtifactError: There is no readable tokenizer.
    """
    for name in TOKENIZER_FILES:
        if (folder / name).exists():
            check_small(folder / name)
    if not (folder / "tokenizer.json").is_file():
        raise ArtifactError(
            f"{folder}: no tokenizer.json: give a folder with one, or make it of a tokenizer.model "
            "with `hanpaca tokenizer convert`"
        )
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except Exception as error:
        # The tokenizers library raises bare Exceptions of its own.
        if type(error) is not Exception and not isinstance(error, _UNREADABLE):
            raise
        raise ArtifactError(f"{folder}: the tokenizer cannot be loaded: {_told(error)}") from error
    return cast(PreTrainedTokenizerFast, tokenizer)


def end_token(tokenizer: PreTrainedTokenizerFast) -> int:
    """The token every document ends with.

    Raises:
        ArtifactError: The tokenizer has none.
    """
    if tokenizer.eos_token_id is None:
        raise ArtifactError(
            f"{tokenizer.name_or_path}: the tokenizer has no EOS token; set eos_token in its "
            "tokenizer_config.json"
        )
    return int(tokenizer.eos_token_id)


def start_token(tokenizer: PreTrainedTokenizerFast) -> int:
    """The token every document starts with: BOS, or EOS where the model has no BOS.

    Raises:
        ArtifactError: The tokenizer has neither.
    """
    for token_id in (tokenizer.bos_token_id, tokenizer.eos_token_id):
        if token_id is not None:
            return int(token_id)
    raise ArtifactError(f"{tokenizer.name_or_path}: the tokenizer has neither BOS nor EOS token")


def _told(error: Exception) -> str:
    """What a library said, on one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]
