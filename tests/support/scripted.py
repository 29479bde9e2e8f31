"""A model whose every answer is known beforehand.

Its layers do nothing and its head says which token follows which, so it writes what is scripted:
Chinese characters, three tokens each, as SmolLM2 writes the rarer ones.
"""

import itertools
import shutil
from pathlib import Path

import torch
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from hanpaca.gguf.metadata import Metadata
from hanpaca.steps.write_gguf import folder_to_gguf

ANSWER = "你春秋"
"""No byte of it comes twice, so that each has one successor."""
END = "<|im_end|>"


def scripted_model(
    tokenizer: Path,
    folder: Path,
    *,
    last: str,
    intermediate_size: int = 32,
    context_tokens: int = 32_768,
    metadata: Metadata | None = None,
) -> Path:
    """A GGUF file that answers with `ANSWER` and then `last`: the end, or the beginning again.

    The more there is to compute, by `intermediate_size`, the slower it writes.
    """
    shutil.copytree(tokenizer, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    encode = AutoTokenizer.from_pretrained(folder).encode
    ids = [*encode("\n"), *encode(ANSWER), *encode(last)]
    assert len(ids) == 1 + len(ANSWER.encode()) + 1
    vocab_size, size = 394, 400
    config = LlamaConfig(
        vocab_size=vocab_size,
        hidden_size=size,
        intermediate_size=intermediate_size,
        num_hidden_layers=1,
        num_attention_heads=4,
        num_key_value_heads=1,
        max_position_embeddings=context_tokens,
        tie_word_embeddings=False,
        bos_token_id=1,
        eos_token_id=2,
    )
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        for parameter in (layer := model.model.layers[0]).parameters():
            parameter.zero_()
        layer.input_layernorm.weight.fill_(1)
        layer.post_attention_layernorm.weight.fill_(1)
        model.model.embed_tokens.weight.copy_(torch.eye(vocab_size, size))
        model.lm_head.weight.zero_()
        for token, following in itertools.pairwise(ids):
            model.lm_head.weight[following, token] = 10
    model.bfloat16().save_pretrained(folder)
    file = folder.with_suffix(".gguf")
    folder_to_gguf(folder, file, file_type="f16", metadata=metadata or {})
    return file
