"""What of a recipe decides each stage's output, JSON-safe: the stage's key is made of it.

A key that comes later is left out at its default, so that a run made before keeps its keys.
"""

from collections.abc import Callable
from typing import Any, cast

from hanpaca.data.general import general_version
from hanpaca.runs.layout import measured_scripts
from hanpaca.settings import Recipe, SftSettings, TokenizerSettings


def section(name: str, *beside: str) -> Callable[[Recipe], dict[str, Any]]:
    """Settings of one section, and of the recipe's own those that decide as well."""

    def config(recipe: Recipe) -> dict[str, Any]:
        found = getattr(recipe, name).model_dump(mode="json")
        return {**found, **{key: getattr(recipe, key) for key in beside}}

    return config


def data(recipe: Recipe) -> dict[str, Any]:
    """With the tasks, if there are any: what is learned for them is made here.

    Without preferences, which 55-dpo reads itself.
    """
    found = section("data", "seed")(recipe)
    found.pop("preferences", None)
    tasks = {"tasks": list(recipe.eval.tasks)} if recipe.eval.tasks else {}
    # Which weights decides nothing here, only that there are some.
    apart = {"apart": True} if recipe.pretrain and recipe.pretrain.weights else {}
    return {**found, **tasks, **_packed_for(recipe), **apart}


def _packed_for(recipe: Recipe) -> dict[str, Any]:
    """The language, where it decides which package's phrases are read."""
    named = (*recipe.data.text, *recipe.data.instructions)
    return {"language": recipe.language} if "builtin:interface" in named else {}


def tokenizer(recipe: Recipe) -> dict[str, Any]:
    """Without what is at its default, so that a key that is new here makes no stage stale."""
    found = cast("TokenizerSettings", recipe.tokenizer)
    return found.model_dump(mode="json", exclude_defaults=True)


def sft(recipe: Recipe) -> dict[str, Any]:
    """With the questions that the base answers, where it does."""
    found = section("sft", "seed")(recipe)
    if cast("SftSettings", recipe.sft).self_replay_conversations:
        found["general_questions"] = general_version()
    return found


def dpo(recipe: Recipe) -> dict[str, Any]:
    """With how the pairs are read."""
    read = recipe.data.model_dump(mode="json", include={"encoding", "skip_bad_rows"})
    return {**section("dpo", "seed")(recipe), **read}


def evaluation(recipe: Recipe) -> dict[str, Any]:
    """With the scripts that are measured and the files that are written."""
    measured = {"scripts": list(measured_scripts(recipe)), "types": list(recipe.gguf.types)}
    # Prompts and goals were Chinese before there was a choice: those runs keep their keys.
    language = {} if recipe.language == "zh" else {"language": recipe.language}
    return {**section("eval", "name", "seed")(recipe), **measured, **language}
