"""Teach an English-centric LLaMA-family model a new language, and prove what changed.

The steps are functions, one for each command; what they are told to choose has the names that
recipes and commands give it. Nothing is loaded before it is used: importing this package, reading
a recipe or a run folder imports no torch.

>>> import hanpaca as hp
>>> hp.write_gguf  # doctest: +ELLIPSIS
<function write_gguf at ...>
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hanpaca.data.choice.questions import read_questions
    from hanpaca.data.cleaning.settings import CleanSettings
    from hanpaca.data.conversations import read_conversations
    from hanpaca.data.documents import read_documents
    from hanpaca.data.generating.settings import GenerateSettings
    from hanpaca.data.preferences import read_preferences
    from hanpaca.data.sources import Texts
    from hanpaca.errors import HanpacaError
    from hanpaca.evals.tasks.choice_settings import ChoiceSettings
    from hanpaca.inference.retrieval.settings import AskSettings, IndexSettings
    from hanpaca.runs.compare import compare
    from hanpaca.runs.recipe import load_recipe
    from hanpaca.runs.run import Run, run
    from hanpaca.settings import DpoSettings, PretrainSettings, Recipe, RowsSettings, SftSettings
    from hanpaca.steps.advise import advise
    from hanpaca.steps.ask import Documents
    from hanpaca.steps.audit import audit
    from hanpaca.steps.chat import Chat
    from hanpaca.steps.check_data import check_data
    from hanpaca.steps.choice import ChoiceTask
    from hanpaca.steps.clean_data import clean_data
    from hanpaca.steps.combine import combine
    from hanpaca.steps.doctor import doctor
    from hanpaca.steps.dpo import dpo
    from hanpaca.steps.evaluate import evaluate
    from hanpaca.steps.export import export
    from hanpaca.steps.extend import extend
    from hanpaca.steps.extract import extract
    from hanpaca.steps.fit import fit
    from hanpaca.steps.generate_data import generate_data
    from hanpaca.steps.grow import grow
    from hanpaca.steps.imatrix import imatrix
    from hanpaca.steps.inspect import inspect
    from hanpaca.steps.merge import merge
    from hanpaca.steps.model_card import model_card
    from hanpaca.steps.pretrain import pretrain
    from hanpaca.steps.prune import prune
    from hanpaca.steps.sft import sft
    from hanpaca.steps.write_gguf import write_gguf
    from hanpaca.steps.write_gguf_adapter import write_gguf_adapter
    from hanpaca.tokenizer.tokenizer import Tokenizer

__version__ = "0.2.0"
__all__ = [
    "AskSettings",
    "Chat",
    "ChoiceSettings",
    "ChoiceTask",
    "CleanSettings",
    "Documents",
    "DpoSettings",
    "GenerateSettings",
    "HanpacaError",
    "IndexSettings",
    "PretrainSettings",
    "Recipe",
    "RowsSettings",
    "Run",
    "SftSettings",
    "Texts",
    "Tokenizer",
    "advise",
    "audit",
    "check_data",
    "clean_data",
    "combine",
    "compare",
    "doctor",
    "dpo",
    "evaluate",
    "export",
    "extend",
    "extract",
    "fit",
    "generate_data",
    "grow",
    "imatrix",
    "inspect",
    "load_recipe",
    "merge",
    "model_card",
    "pretrain",
    "prune",
    "read_conversations",
    "read_documents",
    "read_preferences",
    "read_questions",
    "run",
    "sft",
    "write_gguf",
    "write_gguf_adapter",
]
_ELSEWHERE = {
    "AskSettings": "inference.retrieval.settings",
    "Chat": "steps.chat",
    "ChoiceSettings": "evals.tasks.choice_settings",
    "ChoiceTask": "steps.choice",
    "CleanSettings": "data.cleaning.settings",
    "Documents": "steps.ask",
    "DpoSettings": "settings",
    "GenerateSettings": "data.generating.settings",
    "HanpacaError": "errors",
    "IndexSettings": "inference.retrieval.settings",
    "PretrainSettings": "settings",
    "Recipe": "settings",
    "RowsSettings": "settings",
    "Run": "runs.run",
    "SftSettings": "settings",
    "Texts": "data.sources",
    "Tokenizer": "tokenizer.tokenizer",
    "compare": "runs.compare",
    "load_recipe": "runs.recipe",
    "read_conversations": "data.conversations",
    "read_documents": "data.documents",
    "read_preferences": "data.preferences",
    "read_questions": "data.choice.questions",
    "run": "runs.run",
}
"""Modules of the names that are no steps; a step stands in the module of its name."""


def __getattr__(name: str) -> Any:  # noqa: ANN401  # whatever has the name
    """Load a public name when it is asked for (PEP 562)."""
    if name not in __all__:
        raise AttributeError(f"module 'hanpaca' has no attribute {name!r}")
    module = import_module(f"hanpaca.{_ELSEWHERE.get(name, f'steps.{name}')}")
    globals()[name] = value = getattr(module, name)
    return value


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
