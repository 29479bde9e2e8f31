"""Teach an English-centric LLaMA-family model a new language.

Importing this package, reading a recipe or a run folder imports no torch.
"""

__version__ = "0.1.0"
