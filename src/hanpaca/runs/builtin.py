"""Which builtin texts a recipe asks for, and what is made of them."""

from collections.abc import Iterator
from pathlib import Path

from hanpaca.data.builtin.cloud import build_cloud
from hanpaca.data.builtin.from_idioms import from_idioms
from hanpaca.data.builtin.interface import build_interface
from hanpaca.data.builtin.laws import build_laws
from hanpaca.data.builtin.material import BuiltinMaterial, without_leaks
from hanpaca.data.builtin.packages import CEDICT, dictionary_file, package_of
from hanpaca.data.builtin.words import build_words
from hanpaca.data.idioms import build_idioms
from hanpaca.errors import HanpacaError, RecipeError
from hanpaca.evals.results import Provenance
from hanpaca.files import Artifact, describe_file
from hanpaca.settings import Recipe

_READ = ("*.csv", "*.db", "*.zip", "*.json", "v*/models.py")


def sources_of(recipe: Recipe) -> list[str]:
    """The words of the texts out of packages that a recipe names, in order."""
    named = (*recipe.data.text, *recipe.data.instructions)
    return [name for name in dict.fromkeys(named) if name.startswith("builtin:")]


def build_sources(recipe: Recipe) -> dict[str, BuiltinMaterial]:
    """Divide each source; what one holds out is in none of the others either.

    Each holds out its part of `data.heldout_documents`.

    Raises:
        ResourceError: A package is not installed: names the command.
        DataError: A package holds something else than expected, or too little.
    """
    names = sources_of(recipe)
    made = [_built(name, recipe, recipe.data.heldout_documents // len(names)) for name in names]
    return dict(zip(names, without_leaks(made), strict=True))


def package_files(name: str, language: str) -> list[Artifact]:
    """The files of a source as a stage's inputs."""
    package = package_of(name, language)
    if package is None:
        return []
    path, inside = package.path(), f"package:{package.module}/{package.file}".rstrip("/")
    if path.is_file():
        return [describe_file(path, name=inside)]
    found = sorted({file for pattern in _READ for file in path.rglob(pattern)})
    return [
        describe_file(file, name=f"{inside}/{file.relative_to(path).as_posix()}") for file in found
    ]


def dictionary_of(recipe: Recipe) -> Path:
    """Where the dictionary of `rows` lies.

    Raises:
        ResourceError: Its package is not installed.
    """
    name = str(recipe.rows.dictionary)
    return dictionary_file(name) if name == CEDICT.word else recipe.locate(name)


def _packaged(recipe: Recipe) -> list[str]:
    """Words of the texts, and of a dictionary, out of packages."""
    uses_cedict = recipe.rows.dictionary == CEDICT.word
    return [*sources_of(recipe), *([CEDICT.word] if uses_cedict else [])]


def licences(recipe: Recipe) -> list[Provenance]:
    """Package and licence of each text, for who passes on what was made of them."""
    packages = [package_of(name, recipe.language) for name in _packaged(recipe)]
    return [
        Provenance(one.word, f"{one.holds}; {one.requirement}, {one.licence}")
        for one in packages
        if one
    ]


def not_installed(recipe: Recipe) -> Iterator[str]:
    """A line for each source whose package is not there: what a run would refuse with."""
    for name in _packaged(recipe):
        try:
            if package := package_of(name, recipe.language):
                package.path()
        except HanpacaError as error:
            yield error.message


def _built(name: str, recipe: Recipe, num_heldout: int) -> BuiltinMaterial:
    package, seed = package_of(name, recipe.language), recipe.seed
    if package is None:
        raise RecipeError(f"{name} does not come with hanpaca")
    path = package.path()
    match name:
        case "builtin:laws":
            return build_laws(path, num_heldout=num_heldout, seed=seed)
        case "builtin:words":
            return build_words(path, num_heldout=num_heldout, seed=seed)
        case "builtin:cloud":
            return build_cloud(path, num_heldout=num_heldout, seed=seed)
        case "builtin:interface":
            return build_interface(path, recipe.language, num_heldout=num_heldout, seed=seed)
        case _:
            return from_idioms(build_idioms(path, num_heldout=num_heldout, seed=seed), seed=seed)
