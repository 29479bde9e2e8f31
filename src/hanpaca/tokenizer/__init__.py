"""Extend a vocabulary and prove what did not change."""

from hanpaca.tokenizer.audit import Audit, audit_extension
from hanpaca.tokenizer.byte_bpe import ByteBPE, read_byte_bpe
from hanpaca.tokenizer.extend import Extension, extend_byte_bpe, write_extension

__all__ = [
    "Audit",
    "ByteBPE",
    "Extension",
    "audit_extension",
    "extend_byte_bpe",
    "read_byte_bpe",
    "write_extension",
]
