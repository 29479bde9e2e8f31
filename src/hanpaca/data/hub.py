"""Data sets of the Hugging Face hub, read by the `datasets` library where a name asks for it.

`hub:owner/name[:config][:split]` stands wherever a file or folder of text, of instructions or of
questions is read. The rows are streamed once into a file of the user's cache, one JSON object a
line, and from then on read from there: so a corpus from the hub is held to be as large, as fixed
and as easy to read again as one on disk, and training on it resumes by content.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hanpaca.errors import DataError, RecipeError, ResourceError
from hanpaca.files import digest_of, user_cache, whole
from hanpaca.sections import HUB

_ALL = "*"
_FORM = f"write {HUB}owner/name, {HUB}owner/name:config or {HUB}owner/name:config:split"
_SLICE = re.compile(r"(?P<split>[^\[\]]*)(\[:(?P<most>\d+)\])?")
_KEY_DIGITS = 12


@dataclass(frozen=True)
class HubName:
    """What of the hub is asked for."""

    repository: str
    """`owner/name`, or a local folder in the hub's layout."""
    config: str = ""
    """Empty for the only one; `*` for all, a file each."""
    split: str = "train"
    most: int | None = None
    """Rows, from the first."""

    @classmethod
    def read(cls, name: str) -> "HubName":
        """Take a name apart.

        >>> HubName.read("hub:ceval/ceval-exam:law:val[:50]")
        HubName(repository='ceval/ceval-exam', config='law', split='val', most=50)

        Raises:
            RecipeError: It has more parts, or none.
        """
        repository, *others = name.removeprefix(HUB).split(":")
        told = f"{name}: no name of a data set"
        if not repository or len(":".join(others).split("[:")[0].split(":")) > 2:
            raise RecipeError(told, _FORM)
        config, _, split = ":".join(others).partition(":")
        found = _SLICE.fullmatch(split)
        if found is None:
            raise RecipeError(told, f"{_FORM}, perhaps with [:1000] for the first 1,000 rows")
        most = found["most"]
        return cls(repository, config, found["split"] or "train", int(most) if most else None)


def here(path: Path) -> Path:
    """A path as it is; of a name on the hub, the file or folder that its rows are kept in.

    Raises:
        RecipeError: The name is malformed.
        DataError: There is no such data set, configuration or split.
        ResourceError: `datasets` is not installed, the hub cannot be reached, or the cache cannot
            be written.
    """
    if not is_on_hub(str(path)):
        return path
    name = HubName.read(str(path))
    folder = user_cache() / "hub" / digest_of(str(path))[:_KEY_DIGITS]
    if name.config == _ALL:
        if not folder.is_dir():
            with whole(folder) as half:
                half.mkdir()
                for config in _configs(name):
                    _write(half, HubName(name.repository, config, name.split, name.most))
        return folder
    if not folder.is_dir():
        with whole(folder) as half:
            half.mkdir()
            _write(half, name)
    return folder / _file_name(name)


def is_on_hub(name: str) -> bool:
    """Whether a name asks for the hub."""
    return name.startswith(HUB)


def _file_name(name: HubName) -> str:
    """With the configuration, as sets of questions have one for each subject."""
    title = name.config or name.repository.rstrip("/").rpartition("/")[2]
    return f"{title.replace('/', '_')}_{name.split}.jsonl"


def _write(folder: Path, name: HubName) -> None:
    with (folder / _file_name(name)).open("w", encoding="utf-8") as stream:
        for row in _rows(name):
            stream.write(json.dumps(row, ensure_ascii=False, default=str) + "\n")


def _rows(name: HubName) -> Iterator[dict[str, Any]]:
    from tqdm import tqdm

    library = _datasets()
    try:
        found = library.load_dataset(
            name.repository, name.config or None, split=name.split, streaming=True
        )
        rows = found if name.most is None else found.take(name.most)
        # Seen at a terminal alone; it may take long.
        yield from tqdm(rows, desc=name.repository, unit=" rows", disable=None, leave=False)
    except (OSError, ValueError) as error:
        raise _trouble(name, error) from error


def _configs(name: HubName) -> list[str]:
    try:
        return list(_datasets().get_dataset_config_names(name.repository))
    except (OSError, ValueError) as error:
        raise _trouble(name, error) from error


def _trouble(name: HubName, error: OSError | ValueError) -> DataError | ResourceError:
    told = f"{HUB}{name.repository}: {' '.join(str(error).split())[:300]}"
    if isinstance(error, ConnectionError):
        return ResourceError(f"{told}; give a file instead, or try again with a network")
    return DataError(told, "see its page on the hub for configurations and splits")


def _datasets() -> Any:  # noqa: ANN401  # of a package that may be missing
    try:
        import datasets
    except ImportError as error:
        raise ResourceError(
            "data of the hub needs the package datasets: pip install 'hanpaca[hub]'"
        ) from error
    return datasets
