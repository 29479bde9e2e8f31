"""The recipe: every choice of a run, typed, in one place.

A recipe is YAML on disk and a frozen `Recipe` in memory. The text under a field is its only
documentation: the JSON Schema, the file `hanpaca init` writes and the reference page all read it.
"""

from hanpaca.recipe.reading import load_recipe, load_section
from hanpaca.recipe.sections import (
    DataSection,
    EvalSection,
    GgufSection,
    LoraSection,
    PretrainSection,
    Recipe,
    RowsSection,
    SftSection,
    TokenizerSection,
    TrainingSection,
    locate,
)
from hanpaca.recipe.writing import recipe_reference, recipe_template

__all__ = [
    "DataSection",
    "EvalSection",
    "GgufSection",
    "LoraSection",
    "PretrainSection",
    "Recipe",
    "RowsSection",
    "SftSection",
    "TokenizerSection",
    "TrainingSection",
    "load_recipe",
    "load_section",
    "locate",
    "recipe_reference",
    "recipe_template",
]
