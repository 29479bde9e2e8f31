"""Extend a vocabulary and prove what did not change."""

from hanpaca.tokenizer.audit import Audit, audit_extension, audit_tokenizers
from hanpaca.tokenizer.byte_bpe import ByteBPE, read_byte_bpe
from hanpaca.tokenizer.extend import Extension, extend_byte_bpe, write_extension
from hanpaca.tokenizer.reading import open_tokenizer

__all__ = [
    "Audit",
    "ByteBPE",
    "Extension",
    "audit_extension",
    "audit_tokenizers",
    "extend_byte_bpe",
    "open_tokenizer",
    "read_byte_bpe",
    "write_extension",
]
