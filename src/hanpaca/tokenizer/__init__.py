"""Extend a vocabulary and prove what did not change."""

from hanpaca.tokenizer.audit import Audit, audit_extension, audit_tokenizers
from hanpaca.tokenizer.byte_bpe import ByteBPE, read_byte_bpe
from hanpaca.tokenizer.extend import Extension, Wishes, extend_tokenizer, write_extension
from hanpaca.tokenizer.reading import open_tokenizer

__all__ = [
    "Audit",
    "ByteBPE",
    "Extension",
    "Wishes",
    "audit_extension",
    "audit_tokenizers",
    "extend_tokenizer",
    "open_tokenizer",
    "read_byte_bpe",
    "write_extension",
]
