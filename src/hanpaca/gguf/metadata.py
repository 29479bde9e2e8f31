"""The key-values of a GGUF file: what the model is, its tokenizer, and where it comes from.

Source: gguf-py's gguf_writer.py and llama.cpp's conversion script; the keys are listed in
https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from collections.abc import Mapping
from typing import Any

import gguf
from gguf.constants import Keys as AllKeys

from hanpaca.checkpoints.rope import add_rope
from hanpaca.gguf.types import FILE_TYPES
from hanpaca.tokenizer.conversion.gguf import Vocabulary

Keys = AllKeys.Tokenizer
Metadata = Mapping[str, str | int | float | bool | list[str]]
"""Further keys, such as `general.license` or `hanpaca.base.fingerprint`."""


def add_header(
    writer: gguf.GGUFWriter, config: Mapping[str, Any], file_type: str, name: object
) -> None:
    """Write what a model is: its architecture, sizes and type.

    `hanpaca.gguf.config.check_config` says beforehand whether it can be written.
    """
    heads = config["num_attention_heads"]
    head_dim = config.get("head_dim") or config["hidden_size"] // heads
    writer.add_type("model")
    writer.add_name(str(name))
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(config.get("num_key_value_heads") or heads)
    writer.add_key_length(head_dim)
    writer.add_value_length(head_dim)
    writer.add_rope_dimension_count(head_dim)
    add_rope(writer, config)
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(config["vocab_size"])
    writer.add_file_type(int(FILE_TYPES[file_type][1]))
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)


def add_vocabulary(writer: gguf.GGUFWriter, vocabulary: Vocabulary) -> None:
    """Write the tokenizer."""
    writer.add_tokenizer_model(vocabulary.model)
    writer.add_tokenizer_pre(vocabulary.pre)
    writer.add_token_list(vocabulary.tokens)
    writer.add_token_types(vocabulary.token_types)
    if vocabulary.model == "llama":
        writer.add_token_scores(vocabulary.scores)
    else:
        writer.add_token_merges(vocabulary.merges)
    adders = {
        "bos": writer.add_bos_token_id,
        "eos": writer.add_eos_token_id,
        "unk": writer.add_unk_token_id,
        "pad": writer.add_pad_token_id,
    }
    for role, token in vocabulary.special.items():
        adders[role](token)
    for add, token in zip(
        (writer.add_eot_token_id, writer.add_eom_token_id), vocabulary.ends, strict=False
    ):
        add(token)
    writer.add_add_bos_token(vocabulary.add_bos)
    writer.add_add_eos_token(vocabulary.add_eos)
    writer.add_add_space_prefix(vocabulary.space_prefix)
    if vocabulary.chat_template:
        writer.add_chat_template(vocabulary.chat_template)
    for name, template in vocabulary.named_templates.items():
        writer.add_string(Keys.CHAT_TEMPLATE_N.format(name=name), template)
    if vocabulary.named_templates:
        writer.add_array(Keys.CHAT_TEMPLATES, list(vocabulary.named_templates))


def add_metadata(writer: gguf.GGUFWriter, metadata: Metadata) -> None:
    """Write further keys, each in the type of its value; the name is part of the header."""
    for key, value in metadata.items():
        if key == "general.name":
            continue
        match value:
            case bool():
                writer.add_bool(key, value)
            case int():
                add = writer.add_uint32 if 0 <= value < 2**32 else writer.add_int64
                add(key, value)
            case float():
                writer.add_float32(key, value)
            case str():
                writer.add_string(key, value)
            case _:
                writer.add_array(key, value)
