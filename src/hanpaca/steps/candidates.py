"""Models as they are measured, whatever form the user has them in."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from hanpaca.checkpoints.model import open_model
from hanpaca.errors import ArtifactError
from hanpaca.progress import Progress, Tell
from hanpaca.steps.merge import merge
from hanpaca.steps.model_file import chosen_file, gguf_files
from hanpaca.steps.write_gguf import gguf_to_folder
from hanpaca.tokenizer.conversion.fast import with_fast_tokenizer

_CHAT, _FILES = "60-chat", "70-gguf"
"""Where a run has its final model: in the first, or before the second in what was trained last."""


@dataclass(frozen=True)
class Candidate:
    """One model to be measured."""

    name: str
    folder: Path
    """Weights and tokenizer, for bits per character."""
    gguf: Path | None
    """For answers and speed, which are not measured without."""
    how: str
    asked: bool = False
    """Whether it answers the held-out questions."""
    file_type: str | None = None
    """Of the final model's files: which it is."""
    file: Path | None = None
    """Whose size is shown where there is no `gguf`: a file, or none for the folder's weights."""

    @property
    def num_bytes(self) -> int:
        """Of the weights as they lie on disk."""
        if file := self.gguf or self.file:
            return file.stat().st_size
        stored = open_model(self.folder).tensors.values()
        return sum(extent.num_bytes for one in stored for extent in one.extents)


@dataclass(frozen=True)
class Adapted:
    """A base with adapters, to be measured as what they make of it."""

    base: Path
    adapters: tuple[Path, ...]

    @property
    def name(self) -> str:
        """The names of all."""
        return " + ".join(one.name for one in (self.base, *self.adapters))


def names_of(models: Sequence[Candidate | Adapted | Path | str]) -> list[str]:
    """What models are called: as short as they can be told apart."""
    named = [Path(one).name if isinstance(one, Path | str) else one.name for one in models]
    if len(set(named)) == len(named) and all(named):
        return named
    return [str(one) if isinstance(one, Path | str) else one.name for one in models]


@contextmanager
def ready(
    model: Candidate | Adapted | Path | str, name: str, tell: Tell, *, weights: bool
) -> Iterator[Candidate]:
    """A model as something that can be measured, for as long as the block lasts.

    Args:
        model: Whatever form it has.
        name: What it is called.
        tell: Told what is made.
        weights: Whether a folder of them is needed, of a GGUF file too.
    """
    if isinstance(model, Candidate):
        yield model
        return
    with TemporaryDirectory() as scratch:
        folder = Path(scratch) / "model"
        if isinstance(model, Adapted):
            report = merge(model.base, model.adapters, folder, manifest=False, tell=tell)
            for warning in report.warnings:
                tell(Progress(1, note=warning))
            model = folder
        path = _weights_of(Path(model))
        if path.is_file():
            if weights:
                gguf_to_folder(path, folder)
            how = "bits per character with its weights read back; speed and memory with llama.cpp"
            yield Candidate(name, folder, None, how, file=path)
        else:
            how = "bits per character with torch in bfloat16"
            fast = with_fast_tokenizer(path, lambda note: tell(Progress(0, note=note)))
            yield Candidate(name, fast, None, how)


def _weights_of(path: Path) -> Path:
    """Of a run its final model, of a folder of GGUF files one of them."""
    made = sorted(one.parent for one in path.glob("[0-9][0-9]-*/config.json"))
    if made and (made[-1].name == _CHAT or (path / _FILES).is_dir()):
        return made[-1]
    if path.is_dir() and not (path / "config.json").is_file():
        if files := gguf_files(path):
            return chosen_file(files)
        if any(path.glob("[0-9][0-9]-*")):
            raise ArtifactError(
                f"{path}: a run that has no final model yet", "let {run()} go on to its end"
            )
    return path
