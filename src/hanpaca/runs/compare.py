"""Read what runs left, and put it side by side."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from hanpaca.errors import ArtifactError, RecipeError
from hanpaca.evals.comparison import BitsPair, ComparedRun, cautions, own_notes, pairs_of
from hanpaca.evals.results import read_results
from hanpaca.files import whole
from hanpaca.manifests import Manifest, read_manifest, stage_folders
from hanpaca.report.runs_page import final_rows, pair_rows, runs_page, setting_rows, tasks_beside
from hanpaca.report.shown import Table, notebook_table, plain_table
from hanpaca.report.wording import ENGLISH, checked_language
from hanpaca.runs.layout import DATA, EVAL, GGUF, REPLAY_HELDOUT, RESULTS, TEXT_HELDOUT
from hanpaca.runs.stages import STAGES

_LONG = ("notes",)
"""Settings that are text for readers; pages show them elsewhere."""
_SECTIONS = {stage.name: stage.section for stage in STAGES}


@dataclass(frozen=True)
class ComparedRuns:
    """Runs side by side; in a notebook it shows as tables."""

    runs: tuple[ComparedRun, ...]
    pairs: tuple[BitsPair, ...]
    """Each run against the first, where both were measured on the same text."""
    notes: tuple[str, ...]
    """What to read with care."""

    @property
    def own_notes(self) -> list[tuple[str, str]]:
        """What each run says of its own numbers, with the names of all that say it."""
        return own_notes(self.runs)

    @property
    def tables(self) -> list[Table]:
        """Header and rows: of the final models, of pairs, of tasks, and of settings that differ."""
        found = (
            final_rows(self.runs),
            pair_rows(self.pairs),
            *tasks_beside(self.runs),
            setting_rows(self.runs),
        )
        return [table for table in found if table[1]]

    def page(self, path: Path | str, *, lang: str = ENGLISH) -> None:
        """Write one self-contained page in `lang`; a file of this name is replaced.

        Raises:
            RecipeError: No page is written in `lang`.
            ArtifactError: A folder has this name.
            ResourceError: It cannot be written there.
        """
        text = runs_page(self.runs, self.pairs, self.notes, lang=checked_language(lang))
        with whole(Path(path), replace=True) as half:
            half.write_text(text, encoding="utf-8")

    def json(self) -> str:
        """All of it, the results of every run included."""
        return TypeAdapter(ComparedRuns).dump_json(self, indent=2).decode()

    def __str__(self) -> str:
        return "\n\n".join(plain_table(one) for one in self.tables)

    def _repr_html_(self) -> str:
        return notebook_table(self.tables)


def compare(runs: Sequence[Path | str], *, seed: int = 0) -> ComparedRuns:
    """Put runs side by side: numbers, settings that differ, samples, and where they come from.

    ```python
    found = compare(["runs/one", "runs/other"])
    print(found)
    found.page("compare.html", lang="zh")
    ```

    Args:
        runs: Two or more run folders that were evaluated, or files that `hanpaca eval --json`
            wrote. Each is compared with the first.
        seed: Of the intervals.

    Raises:
        RecipeError: There are fewer than two.
        ArtifactError: One was not evaluated, or is damaged.
    """
    if len(runs) < 2:
        raise RecipeError("there is one run: give two or more to compare")
    paths = [Path(run) for run in runs]
    found = [_read(path, name) for path, name in zip(paths, _names(paths), strict=True)]
    return ComparedRuns(tuple(found), tuple(pairs_of(found, seed=seed)), tuple(cautions(found)))


def _names(paths: Sequence[Path]) -> list[str]:
    """The last part of each path that tells them apart."""
    shown = [path.resolve() for path in paths]
    if again := [path for path in shown if shown.count(path) > 1]:
        raise RecipeError(f"{again[0]}: given twice; give different runs")
    for depth in range(1, max(len(path.parts) for path in shown)):
        whole_names = ["/".join(path.parts[-depth:]) for path in shown]
        for names in ([name.removesuffix(".json") for name in whole_names], whole_names):
            if len(set(names)) == len(names):
                return names
    return [str(path) for path in shown]


def _read(path: Path, name: str) -> ComparedRun:
    if path.is_file():
        return ComparedRun(name, read_results(path), {}, {}, {})
    file = path / EVAL / RESULTS
    if not file.is_file():
        raise ArtifactError(
            f"{path}: no {EVAL}/{RESULTS}: not a run, or one that was not evaluated",
            "give the folder of a run, and let {run()} go on to its end",
        )
    results = read_results(file)
    manifests = [read_manifest(folder) for folder in stage_folders(path)]
    written = {one.path: one.sha256 for manifest in manifests for one in manifest.outputs}
    texts = (f"{DATA}/{TEXT_HELDOUT}", f"{DATA}/{REPLAY_HELDOUT}")
    heldout = {
        language: written[text]
        for language, text in zip(results.languages, texts, strict=False)
        if text in written
    }
    return ComparedRun(
        name, results, dict(_settings(manifests)), dict(_sources(manifests, written)), heldout
    )


def _settings(manifests: Sequence[Manifest]) -> Iterator[tuple[str, str]]:
    """What of the recipe decided each stage's output; a key left out is at its default."""
    for manifest in manifests:
        section = _SECTIONS.get(manifest.stage) or manifest.stage
        yield from _flat(section, manifest.config)


def _flat(name: str, tree: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _flat(f"{name}.{key}", value)
        elif key not in _LONG:
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            yield f"{name}.{key}", text


def _sources(
    manifests: Sequence[Manifest], written: Mapping[str, str]
) -> Iterator[tuple[str, str]]:
    """Files from outside, and the files that a run is for."""
    for manifest in manifests:
        yield from ((one.path, one.sha256) for one in manifest.inputs if one.path not in written)
    yield from ((path, digest) for path, digest in written.items() if path.startswith(f"{GGUF}/"))
