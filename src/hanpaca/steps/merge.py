"""A base and its adapters become one model."""

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Unpack

from hanpaca.errors import RecipeError
from hanpaca.files import describe_file
from hanpaca.manifests import ALONE, Manifest, environment, stage_key, write_manifest
from hanpaca.merging import JOURNAL, MergePlan, run_merge
from hanpaca.merging.parity import Parity, check_feasible, compare
from hanpaca.progress import Progress, Tell, silent
from hanpaca.steps.fit import Format, MergeChoices, fit
from hanpaca.steps.write_gguf import plan_to_file

_VERSION = 1


@dataclass(frozen=True)
class MergeReport:
    """What was written."""

    output: Path
    num_bytes: int
    num_tensors: int
    num_changed: int
    """Tensors in which an adapter has a say."""
    seconds: float
    warnings: tuple[str, ...]
    check: Parity | None = None
    """How near the result comes to base and adapters in peft, where that was asked for."""
    notes: Sequence[str] = field(default_factory=tuple)
    """Of a GGUF file: what it cannot say. Of a sum: where the rows of pieces come from."""


def merge(
    base: Path | str,
    adapters: Sequence[Path | str],
    output: Path | str,
    *,
    format: Format = "hf",
    manifest: bool = True,
    check: bool = False,
    tell: Tell = silent,
    **choices: Unpack[MergeChoices],
) -> MergeReport:
    """Fold LoRA adapters into their base, in a few hundred MB of memory, rounded once.

    ```python
    report = merge("llama-7b", ["plus", "alpaca"], "out", dtype="f16")
    print(report.num_changed, *report.warnings)
    ```

    Args:
        base: What the first adapter was trained on: a folder of any layout, or a GGUF file.
        adapters: In order; each was trained on the result of those before it. None converts only.
        output: Folder, or of format gguf the file; it appears when it is whole.
        format: Hugging Face's, Meta's, or one GGUF file.
        manifest: Write what the model was made of, for which everything read and written is hashed.
        check: Then compare logits with base and adapters in transformers and peft.
        tell: Told the bytes written.
        choices: See `MergeChoices`.

    Raises:
        ArtifactError: Something is missing, damaged or does not fit, or the output exists.
        RecipeError: Only a result in Hugging Face's format can be compared.
        ResourceError: The disk is full, or a file cannot be written.
    """
    plan = fit(base, adapters, format=format, **choices).checked()
    return carry_out(plan, Path(output), format=format, manifest=manifest, check=check, tell=tell)


def carry_out(
    plan: MergePlan,
    output: Path,
    *,
    format: Format = "hf",
    manifest: bool = True,
    check: bool = False,
    made_of: Mapping[str, Any] | None = None,
    tell: Tell = silent,
) -> MergeReport:
    """Carry out what `plan_merge` or `plan_combination` has planned; see `merge`.

    Args:
        plan: Of a merge or a sum; its warnings are for the caller to show.
        output: See `merge`.
        format: As the plan was made for.
        manifest: See `merge`.
        check: See `merge`.
        made_of: What else than options and adapters decides the result, for the manifest.
        tell: See `merge`.
    """
    if check and format != "hf":
        raise RecipeError("the check loads the result with transformers", "leave out {format}")
    kind = check_feasible(plan) if check else None
    began, started = time.perf_counter(), datetime.now(UTC)

    def finish(folder: Path) -> None:
        if manifest:
            write_manifest(folder, _manifest(plan, folder, started, made_of or {}))

    notes: tuple[str, ...] = ()
    if format == "gguf":
        file = plan_to_file(plan, output, on_bytes=_on_bytes(tell))
        num_bytes, notes = file.num_bytes, tuple(n for n in file.notes if n not in plan.warnings)
    else:
        num_bytes = run_merge(plan, output, on_bytes=_on_bytes(tell), finish=finish).num_bytes
    return MergeReport(
        output,
        num_bytes,
        len(plan.tensors),
        plan.num_changed,
        round(time.perf_counter() - began, 3),
        tuple(plan.warnings),
        compare(plan, output, kind) if kind else None,
        notes,
    )


def _on_bytes(tell: Tell) -> Callable[[int, int], None]:
    def told(done: int, total: int) -> None:
        tell(Progress(done, total, "bytes"))

    return told


def _manifest(
    plan: MergePlan, folder: Path, started: datetime, made_of: Mapping[str, Any]
) -> Manifest:
    own = plan.tokenizer is not None and plan.tokenizer != plan.base.side  # else in the GGUF file
    tokenizer = list(plan.tokenizer.glob("tokenizer*")) if plan.tokenizer and own else []
    given = {str(file): file for file in [*plan.files, *tokenizer] if file.is_file()}
    made = {file.name: file for file in folder.iterdir() if file.name != JOURNAL}
    with ThreadPoolExecutor(2) as pool:
        inputs = tuple(pool.map(lambda name: describe_file(given[name], name=name), sorted(given)))
        outputs = tuple(pool.map(lambda name: describe_file(made[name], name=name), sorted(made)))
    adapters = [str(one.folder) for one in plan.adapters]
    config = {**asdict(plan.options), "adapters": adapters, **made_of}
    return Manifest(
        stage=ALONE,
        stage_version=_VERSION,
        key=stage_key(ALONE, _VERSION, config, inputs),
        config=config,
        inputs=inputs,
        outputs=outputs,
        metrics={"num_tensors": len(plan.tensors), "num_changed": plan.num_changed},
        environment=environment(),
        started=started.isoformat(timespec="seconds"),
        seconds=round((datetime.now(UTC) - started).total_seconds(), 2),
    )
