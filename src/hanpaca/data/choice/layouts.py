"""Which files of a folder hold the questions of a published set, and which its examples."""

from pathlib import Path

from hanpaca.data.choice.sets import KNOWN
from hanpaca.data.files import suffix_of
from hanpaca.data.hub import here
from hanpaca.errors import DataError

_KINDS = (".csv", ".json", ".jsonl", ".ndjson")
_EXAMPLES = "dev"


def find_files(path: Path, *, name: str | None) -> tuple[list[Path], list[Path]]:
    """The files with questions, and those with solved examples.

    A folder has them in `val`, `test` and `dev`, as C-Eval, CMMLU and MMLU are published, or all
    in one place, where `dev` stands in the names of those with examples.

    Args:
        path: A file or a folder.
        name: Of the set, which says which split is asked; `val` comes first where none is given.

    Raises:
        DataError: There is no such place.
    """
    path = here(path)
    if not path.exists():
        raise DataError(f"{path}: no such file or folder")
    if path.is_file():
        return [path], []
    known = KNOWN.get(name or "")
    wanted = known.split if known else "val"
    for split in dict.fromkeys((wanted, "val", "test")):
        if (path / split).is_dir():
            shown = path / _EXAMPLES
            return _inside(path / split), _inside(shown) if shown.is_dir() else []
    files = _inside(path)
    shown_files = [one for one in files if one.name.partition(".")[0].endswith(f"_{_EXAMPLES}")]
    return [one for one in files if one not in shown_files], shown_files


def _inside(folder: Path) -> list[Path]:
    shown = [one for one in folder.iterdir() if one.is_file() and not one.name.startswith(".")]
    return sorted(one for one in shown if suffix_of(one) in _KINDS)
