"""Which models a page offers: those that are named, and the other files beside them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hanpaca.errors import ArtifactError
from hanpaca.steps.model_file import chosen_file, gguf_files


@dataclass(frozen=True)
class Offer:
    """A model that can be picked."""

    name: str
    model: Path
    adapters: tuple[Path, ...] = ()


def offers(models: Sequence[Path], adapters: Sequence[Path] = ()) -> list[Offer]:
    """What can be picked: the models in their order, then the other files of runs and folders.

    Args:
        models: GGUF files, folders of them, runs, or folders of weights.
        adapters: Folded into the first model, which is then offered alone too, and comes second.

    Raises:
        ArtifactError: There is no such model.
    """
    for one in (*models, *adapters):
        if not one.exists():
            raise ArtifactError(f"{one}: no such file or folder")
    found = [_offer(one) for one in models]
    if adapters:
        folded = f"{found[0].name} + {' + '.join(_name(one) for one in adapters)}"
        found.insert(1, Offer(folded, models[0], tuple(adapters)))
    found += [Offer(file.stem, file) for one in models for file in gguf_files(one)]
    return _distinct(found)


def _offer(model: Path) -> Offer:
    files = gguf_files(model)
    file = chosen_file(files) if files else model
    return Offer(_name(file), file)


def _name(path: Path) -> str:
    return path.resolve().name.removesuffix(".gguf")


def _distinct(found: Sequence[Offer]) -> list[Offer]:
    """Each model once; of two with one name, the later one has its folder's name as well."""
    kept: dict[str, Offer] = {}
    seen = set[tuple[Path, tuple[Path, ...]]]()
    for one in found:
        if (key := (one.model.resolve(), one.adapters)) in seen:
            continue
        seen.add(key)
        name, number = one.name, 1
        while name in kept:
            number += 1
            name = f"{one.model.resolve().parent.name}/{one.name}" + f" {number}" * (number > 2)
        kept[name] = Offer(name, one.model, one.adapters)
    return list(kept.values())
