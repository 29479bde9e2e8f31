"""Do base, adapters and tokenizer go together, in this order? The one judge, and the planner.

Every command that merges, or asks whether it could, asks here, so that all give one answer. What
proves that the result would be wrong is a fault, each with what to do; what only suggests it, or
could not be checked, is a warning. Where there is no fault there is a plan, and it carries the
warnings with it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hanpaca.checkpoints.adapter import AdapterFiles, open_adapter
from hanpaca.checkpoints.meta import EMBEDDING, HEAD
from hanpaca.checkpoints.model import ModelFiles, open_model
from hanpaca.checkpoints.safetensors import side_files
from hanpaca.errors import ArtifactError
from hanpaca.merging import side
from hanpaca.merging.findings import Findings
from hanpaca.merging.order import check_order
from hanpaca.merging.outputs import OutputTensor
from hanpaca.merging.plan import DTYPES, MergeOptions, MergePlan, shards_of
from hanpaca.merging.provenance import check_bases, check_tokenizer
from hanpaca.merging.tensors import plan_tensors
from hanpaca.tokenizer.count import count_tokenizer


@dataclass(frozen=True)
class Fit:
    """What was found; there is a plan where there is no fault."""

    plan: MergePlan | None
    faults: tuple[ArtifactError, ...]
    warnings: tuple[str, ...]

    def checked(self) -> MergePlan:
        """The plan.

        Raises:
            ArtifactError: There are faults; the first of them.
        """
        if self.plan is None:
            raise self.faults[0]
        return self.plan


def fit(
    base: Path | str | ModelFiles,
    adapters: Sequence[Path | str] = (),
    options: MergeOptions | None = None,
    *,
    tokenizer: Path | None = None,
    read_content: bool = True,
) -> Fit:
    """Plan a merge from headers, and tell all that speaks against it.

    ```python
    found = fit("llama-7b", ["plus", "alpaca"])
    print(found.faults, found.warnings)
    ```

    Args:
        base: What the first adapter was trained on: Hugging Face safetensors or `.bin`, or Meta's
            `.pth`; or what `open_model` gives.
        adapters: Folders or files, in order; each was trained on the result of those before it.
        options: Format, type, rounding, and what the adapters do not say themselves.
        tokenizer: Folder of the tokenizer the merged model gets; the last adapter's, or else the
            base's, where None.
        read_content: Hash what has a recorded fingerprint or a published hash; else headers alone
            are read.

    Raises:
        ArtifactError: A file is missing or damaged.
    """
    chosen, paths = options or MergeOptions(), [Path(one) for one in adapters]
    model = base if isinstance(base, ModelFiles) else open_model(Path(base))
    opened = [open_adapter(path, alpha=chosen.alpha) for path in paths]
    found = _said_by_themselves(model, opened)
    if found.faults:
        return _told(found)
    tensors, misfits = plan_tensors(
        model,
        opened,
        dtype=DTYPES[chosen.dtype],
        rounding=chosen.rounding,
        weights=chosen.weights,
    )
    found.faults += misfits
    _check_origin(model, opened, tensors, found, read_content=read_content)
    side_files(model.side_folder)  # they are copied last: what is wrong with them is told first
    source = tokenizer or side.tokenizer_folder(model, opened)
    rows = next((one.shape[0] for one in tensors if one.name == EMBEDDING), None)
    if rows is not None and not found.faults:
        _check_size(source, [*paths, model.side_folder], rows, found)
    if source is not None and not found.faults:
        check_tokenizer(source, opened, found)
    if found.faults:
        return _told(found)
    config = side.merged_config(model, tensors)
    shards = shards_of(tensors, config, chosen)
    warnings = tuple(found.warnings)
    plan = MergePlan(model, opened, chosen, tensors, shards, config, source, warnings)
    return Fit(plan, (), warnings)


def plan_merge(
    base: Path | ModelFiles, adapters: Sequence[Path], options: MergeOptions | None = None
) -> MergePlan:
    """Read headers and decide what every byte of the merged model is made of; see `fit`.

    Raises:
        ArtifactError: Something is missing, damaged or does not fit; names file and tensor.
    """
    return fit(base, adapters, options).checked()


def _said_by_themselves(model: ModelFiles, opened: Sequence[AdapterFiles]) -> Findings:
    """What is odd or wrong about each part, whatever the others are."""
    found = Findings(
        [fault for adapter in opened for fault in adapter.faults],
        [
            *model.notes,
            *(f"{adapter.path}: {note}" for adapter in opened for note in adapter.notes),
        ],
    )
    if opened and EMBEDDING not in model.tensors:
        found.wrong(f"{model.folder}: no Llama-style model: it has no {EMBEDDING}")
    return found


def _check_origin(
    model: ModelFiles,
    adapters: Sequence[AdapterFiles],
    tensors: Sequence[OutputTensor],
    found: Findings,
    *,
    read_content: bool,
) -> None:
    """Is this what the adapters were trained on, in this order?"""
    if EMBEDDING in model.tensors:
        rows = model.tensors[EMBEDDING].shape[0]
        check_order(rows, adapters, found, read_content=read_content)
    if not found.faults:
        check_bases(model, adapters, found, read_content=read_content)
    if model.tied and any(one.name == HEAD for one in tensors):
        found.warnings.append(
            f"{adapters[-1].path}: it changes embedding or head alone, so the merged head is not "
            "tied to the embedding"
        )


def _told(found: Findings) -> Fit:
    return Fit(None, tuple(found.faults), tuple(found.warnings))


def _check_size(tokenizer: Path | None, places: Sequence[Path], rows: int, found: Findings) -> None:
    """Compare the tokenizer with the rows of the merged model, and say which one fits."""
    contents = count_tokenizer(tokenizer) if tokenizer else None
    if tokenizer is None or contents is None:
        found.warnings.append(
            f"{tokenizer or places[-1]}: no tokenizer; put the one of the training beside the base"
        )
        return
    if contents.num_entries == rows:
        return
    counted = {path: count_tokenizer(path) for path in places if path.is_dir()}
    fitting = next((path for path, one in counted.items() if one and one.num_entries == rows), None)
    fix = f"give the one of {fitting}" if fitting else "give the one the adapter was trained with"
    sizes = f"{tokenizer}: the tokenizer has {contents.num_entries:,} entries, the merged model"
    if contents.num_entries > rows:
        found.wrong(
            f"{sizes} {rows:,} rows: ids from {rows:,} on would fail. It is the tokenizer of "
            f"another model (Chinese-LLaMA has 49,953 pieces, Chinese-Alpaca 49,954 with [PAD]); "
            f"{fix}"
        )
    else:
        found.warnings.append(f"{sizes} {rows:,} rows: the last ones are never used; {fix}")
