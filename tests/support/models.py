"""Llamas of two small layers, made on the spot."""

import json
import shutil
from pathlib import Path
from typing import Any

from tests.support.tokenizers import make_pico_tokenizer


def make_pico_model(
    folder: Path, *, tied: bool = True, hidden_size: int = 32, seed: int = 0
) -> None:
    """Make a 2-layer Llama with random weights and a byte-level BPE tokenizer."""
    make_pico_tokenizer(folder)
    vocab = json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"]
    special = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2}
    write_pico_weights(folder, len(vocab), tied=tied, hidden_size=hidden_size, seed=seed, **special)


def write_pico_weights(
    folder: Path, vocab_size: int, *, tied: bool, hidden_size: int = 32, seed: int = 0, **more: Any
) -> None:
    """Write configuration and random weights of a 2-layer Llama."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=vocab_size,
        hidden_size=hidden_size,
        intermediate_size=2 * hidden_size,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        tie_word_embeddings=tied,
        initializer_range=0.1,
        **more,
    )
    torch.manual_seed(seed)
    LlamaForCausalLM(config).bfloat16().save_pretrained(folder)


def rows_of(tokenizer: Path) -> int:
    """Entries of a tokenizer folder, and three rows that have none, as padded models have."""
    import sentencepiece
    from tokenizers import Tokenizer

    if (tokenizer / "tokenizer.model").is_file():
        model = sentencepiece.SentencePieceProcessor(model_file=str(tokenizer / "tokenizer.model"))
        return len(model) + 3
    return Tokenizer.from_file(str(tokenizer / "tokenizer.json")).get_vocab_size() + 3


def model_of_one_layer(tokenizer: Path, folder: Path, *, chat_template: str | None = None) -> Path:
    """A model of one small layer with a tokenizer, and the template of its turns if it has one."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=rows_of(tokenizer),
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
    )
    torch.manual_seed(0)
    LlamaForCausalLM(config).bfloat16().save_pretrained(folder)
    for file in tokenizer.iterdir():
        if file.name.startswith("tokenizer"):
            shutil.copyfile(file, folder / file.name)
    if chat_template is not None:
        (folder / "chat_template.jinja").write_text(chat_template, encoding="utf-8")
    return folder
