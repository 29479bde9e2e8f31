"""The whole way on one page: up to eleven stages, each the run's paths, one step, and its metrics.

What a stage reads and what of the recipe decides its output stands in `STAGES`, below. Steps are
imported when there is work: skipping a finished run needs no torch.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from shutil import copyfile
from typing import TYPE_CHECKING, Any, cast

from hanpaca.data.jsonl import read_jsonl, read_texts, write_jsonl
from hanpaca.data.sources import Texts
from hanpaca.errors import ArtifactError, DataError
from hanpaca.files import remove, write_atomically
from hanpaca.progress import Progress, Tell
from hanpaca.runs import decided, layout
from hanpaca.runs.folder import PROGRESS
from hanpaca.runs.layout import Job
from hanpaca.settings import DpoSettings, PretrainSettings, Recipe, SftSettings, TokenizerSettings

if TYPE_CHECKING:
    from hanpaca.tokenizer.extension.wishes import Wishes

Metrics = Mapping[str, Any]


def data(job: Job, folder: Path) -> Metrics:
    """05-data: what is learned from and what is held out, as plain files."""
    from hanpaca.runs.materials import write_materials

    return write_materials(job.recipe, folder, tell=job.tell)


def tokenizer(job: Job, folder: Path) -> Metrics:
    """10-tokenizer: new pieces for the vocabulary, and the proof that nothing else changed."""
    from hanpaca.tokenizer.extension.extend import extend_tokenizer, write_extension
    from hanpaca.tokenizer.folder import copy_tokenizer

    settings = cast("TokenizerSettings", job.recipe.tokenizer)
    spellings: Sequence[Sequence[int]] = ()
    if settings.num_pieces == 0:
        copy_tokenizer(job.base, folder)
    else:
        extension = extend_tokenizer(
            job.base,
            _learned(job),
            num_pieces=settings.num_pieces,
            scripts=settings.scripts,
            wishes=_wishes(settings, job.recipe),
            tell=job.tell,
        )
        for note in extension.notes:
            job.tell(Progress(0, note=note))
        write_extension(extension, job.base, folder)
        spellings = extension.spellings
    write_jsonl(folder / layout.SPELLINGS, ({"spelling": spelling} for spelling in spellings))
    return _audited(job, folder, settings)


def base(job: Job, folder: Path) -> Metrics:
    """20-base: the base model with a row for every new piece; every old row as it was."""
    from hanpaca.runs.builtin import dictionary_of
    from hanpaca.steps.grow import grow_in

    rows = job.recipe.rows
    if rows.dictionary:
        rows = rows.model_copy(update={"dictionary": str(dictionary_of(job.recipe))})
    return grow_in(
        folder,
        job.base,
        job.stage(layout.TOKENIZER),
        _spellings(job),
        _learned(job),
        settings=rows,
        old_texts=read_texts(job.stage(layout.DATA) / layout.REPLAY) if rows.twins else (),
        seed=job.recipe.seed,
    )


def pretrain(job: Job, folder: Path) -> Metrics:
    """30-pretrain: LoRA and new rows learn the language; the adapter belongs to 20-base."""
    from hanpaca.steps.pretrain import PretrainTexts, pretrain_in

    settings = cast("PretrainSettings", job.recipe.pretrain)
    source = job.stage(layout.DATA)
    return pretrain_in(
        folder,
        job.model(layout.PRETRAIN),
        PretrainTexts(
            Texts(tuple(layout.text_files(source))),
            Texts((source / layout.REPLAY,)),
            _probed(job, layout.TEXT_HELDOUT, settings.probed_texts),
            replay_heldout=_probed(job, layout.REPLAY_HELDOUT, (settings.probed_texts + 1) // 2),
        ),
        settings=settings,
        new_rows=len(_spellings(job)),
        seed=job.recipe.seed,
        tell=_kept(job, folder),
    )


def merged(job: Job, folder: Path) -> Metrics:
    """40-merged: the pretraining adapter folded into its base."""
    return _merged(job, layout.PRETRAIN, folder)


def sft(job: Job, folder: Path) -> Metrics:
    """50-sft: LoRA learns to answer; the adapter belongs to 40-merged."""
    from hanpaca.evals.tasks.languages import probe_prompt
    from hanpaca.runs.materials import stored_conversations
    from hanpaca.steps.sft import SftTexts, sft_in

    settings = cast("SftSettings", job.recipe.sft)
    source = job.stage(layout.DATA)
    talks = stored_conversations(source / layout.CONVERSATIONS)
    asked = next(read_jsonl(source / layout.QUESTIONS), None)
    return sft_in(
        folder,
        job.model(layout.SFT),
        SftTexts(
            talks,
            Texts((source / layout.REPLAY,)),
            _probed(job, layout.TEXT_HELDOUT, settings.probed_texts),
            asked["question"] if asked else probe_prompt(job.recipe.language),
            [f"{source / layout.CONVERSATIONS}:{number + 1}" for number in range(len(talks))],
            job.recipe.data.skip_bad_rows,
            job.base,
            _probed(job, layout.REPLAY_HELDOUT, (settings.probed_texts + 1) // 2),
        ),
        settings=settings,
        new_rows=len(_spellings(job)),
        seed=job.recipe.seed,
        tell=_kept(job, folder),
    )


def tuned(job: Job, folder: Path) -> Metrics:
    """52-tuned: the instruction adapter folded in, for preferences to start from."""
    return _answering(job, layout.SFT, folder)


def dpo(job: Job, folder: Path) -> Metrics:
    """55-dpo: LoRA learns which of two answers is better; the adapter belongs to 52-tuned."""
    from hanpaca.data.preferences import read_preferences
    from hanpaca.steps.dpo import DpoTexts, dpo_in

    data, settings = job.recipe.data, cast("DpoSettings", job.recipe.dpo)
    found = list(
        read_preferences(
            [job.recipe.locate(name) for name in data.preferences],
            encoding=data.encoding,
            skip_bad_rows=data.skip_bad_rows,
            tell=job.tell,
        )
    )
    if not found:
        raise DataError("data.preferences: there is no pair of answers in it")
    return dpo_in(
        folder,
        job.model(layout.DPO),
        DpoTexts(
            [one for one, _ in found],
            _probed(job, layout.TEXT_HELDOUT, settings.probed_texts),
            [place for _, place in found],
        ),
        settings=settings,
        seed=job.recipe.seed,
        tell=_kept(job, folder),
    )


def chat(job: Job, folder: Path) -> Metrics:
    """60-chat: the last adapter folded into the model before it, with its chat template."""
    return _answering(job, layout.DPO if job.recipe.dpo else layout.SFT, folder)


def gguf(job: Job, folder: Path) -> Metrics:
    """70-gguf: the last model as one file for each type asked for, all in one reading of it."""
    from hanpaca.checkpoints.fingerprint import model_fingerprint
    from hanpaca.steps.write_gguf import model_to_gguf

    types, model = job.recipe.gguf.types, job.model(layout.GGUF)
    summaries = model_to_gguf(
        model,
        {kind: folder / layout.gguf_name(job.recipe, kind) for kind in types},
        metadata={
            "hanpaca.base.fingerprint": model_fingerprint(job.base),
            "hanpaca.model.fingerprint": model_fingerprint(model),
        },
        on_bytes=_bytes(job, f"writing {', '.join(types)}"),
    )
    return {"num_bytes": {kind: summary.num_bytes for kind, summary in summaries.items()}}


def evaluation(job: Job, folder: Path) -> Metrics:
    """80-eval: every model of the run on the same held-out text, questions and prompts."""
    from hanpaca.runs.measuring import evaluate_run

    return evaluate_run(job, folder)


def _learned(job: Job) -> list[str]:
    """All text that is learned."""
    files = layout.text_files(job.stage(layout.DATA))
    return [text for file in files for text in read_texts(file)]


def _wishes(section: TokenizerSettings, recipe: Recipe) -> "Wishes":
    """What of the recipe an extension heeds beside its text."""
    from hanpaca.data.documents import read_documents
    from hanpaca.tokenizer.extension.wishes import Wishes

    options = recipe.data
    paths = [recipe.locate(name) for name in section.protect]
    protect = read_documents(paths, encoding=options.encoding, text_field=options.text_field)
    return Wishes(
        punctuation=section.punctuation,
        required=recipe.locate(section.required) if section.required else "",
        prior=recipe.locate(section.prior) if section.prior else None,
        protect=[document.text for document in protect],
    )


def _audited(job: Job, folder: Path, settings: TokenizerSettings) -> Metrics:
    """Audit the extension on what is held out."""
    from hanpaca.tokenizer.audits.audit import audit_extension

    source = job.stage(layout.DATA)
    audit = audit_extension(
        job.base,
        folder,
        texts=read_texts(source / layout.TEXT_HELDOUT),
        protected=read_texts(source / layout.REPLAY_HELDOUT),
        scripts=settings.scripts,
    )
    text = json.dumps(asdict(audit), ensure_ascii=False, indent=2)
    (folder / layout.AUDIT).write_text(text, encoding="utf-8")
    # In the letters of English only the text given to protect is sure to keep its tokens.
    changed = audit.num_changed_protected and not settings.protect
    if changed or audit.dead_pieces:
        raise ArtifactError(
            f"{folder / layout.AUDIT}: the extension has dead pieces or changes text it must not "
            "change"
        )
    return {
        "num_pieces": audit.num_pieces_after,
        "tokens_per_character_before": round(audit.target_tokens_per_character_before, 4),
        "tokens_per_character_after": round(audit.target_tokens_per_character_after, 4),
        "num_dead_pieces": len(audit.dead_pieces),
        "num_changed_protected": audit.num_changed_protected,
    }


def _merged(job: Job, adapter: str, folder: Path) -> dict[str, Any]:
    """Merge the adapter of a stage with the model it started from."""
    from hanpaca.merging import PARTIAL, plan_merge, run_merge

    output = folder / "merging"
    for left in (output, output.with_name(f"{output.name}{PARTIAL}")):
        remove(left)
    plan = plan_merge(job.model(adapter), [job.stage(adapter)])
    for warning in plan.warnings:
        job.tell(Progress(0, note=f"warning: {warning}"))
    summary = run_merge(plan, output, measure=True, on_bytes=_bytes(job, "merging"))
    for file in output.iterdir():
        file.rename(folder / file.name)
    output.rmdir()
    return {
        "num_tensors": summary.num_tensors,
        "num_changed": summary.num_changed,
        "largest_change": {name: round(value, 6) for name, value in summary.largest_change.items()},
    }


def _answering(job: Job, training: str, folder: Path) -> dict[str, Any]:
    """Fold in the adapter of a training that taught answers, and keep how it is asked."""
    from hanpaca.steps.sft import TEMPLATE

    metrics = _merged(job, training, folder)
    copyfile(job.stage(training) / TEMPLATE, folder / TEMPLATE)
    return metrics


def _spellings(job: Job) -> list[Sequence[int]]:
    """Base tokens of each new piece."""
    if not layout.in_recipe(layout.TOKENIZER, job.recipe):
        return []
    file = job.stage(layout.TOKENIZER) / layout.SPELLINGS
    return [row["spelling"] for row in read_jsonl(file)]


def _kept(job: Job, folder: Path) -> Tell:
    """Tell each step, and keep the last one where `status_of` finds it."""

    def tell(progress: Progress) -> None:
        write_atomically(folder / PROGRESS, json.dumps(asdict(progress), ensure_ascii=False))
        job.tell(progress)

    return tell


def _probed(job: Job, name: str, number: int) -> list[str]:
    return read_texts(job.stage(layout.DATA) / name)[:number]


def _bytes(job: Job, doing: str) -> Callable[[int, int], None]:
    def tell(done: int, total: int) -> None:
        job.tell(Progress(done, total, "bytes", doing))

    return tell


@dataclass(frozen=True)
class Stage:
    """One step of the main job."""

    name: str
    work: Callable[[Job, Path], Metrics]
    """Writes its files into the folder it is given; the metrics."""
    reads: tuple[str, ...]
    """Earlier stages whose files it reads; see `layout.read_in` for a recipe without some."""
    section: str
    """Of the recipe: who wants another output of this stage changes it."""
    config: Callable[[Recipe], dict[str, Any]]
    """What of the recipe decides its output, JSON-safe."""
    version: int = 1
    """Raised when the same inputs come to give other outputs."""


# fmt: off
STAGES = (
    Stage(layout.DATA, data, (), "data", decided.data, version=2),
    Stage(layout.TOKENIZER, tokenizer, (layout.DATA,), "tokenizer", decided.tokenizer),
    Stage(layout.BASE, base, (layout.DATA, layout.TOKENIZER),
          "rows", decided.section("rows", "seed")),
    Stage(layout.PRETRAIN, pretrain, (layout.DATA, layout.TOKENIZER, layout.BASE),
          "pretrain", decided.section("pretrain", "seed")),
    Stage(layout.MERGED, merged, (layout.BASE, layout.PRETRAIN), "", lambda recipe: {}),
    Stage(layout.SFT, sft, (layout.DATA, layout.TOKENIZER, layout.MERGED),
          "sft", decided.sft),
    Stage(layout.CHAT, chat, (layout.MERGED, layout.SFT),
          "sft", lambda recipe: {"template": cast("SftSettings", recipe.sft).template}),
    Stage(layout.GGUF, gguf, (layout.CHAT,), "gguf", decided.section("gguf", "name"), version=2),
    Stage(layout.EVAL, evaluation, layout.EARLIER, "eval", decided.evaluation),
)
# fmt: on


_PREFERENCES = (
    Stage(layout.TUNED, tuned, (layout.MERGED, layout.SFT), "sft", lambda recipe: {}),
    Stage(layout.DPO, dpo, (layout.DATA, layout.TUNED), "dpo", decided.dpo),
    Stage(layout.CHAT, chat, (layout.TUNED, layout.DPO), "dpo", lambda recipe: {}),
    Stage(layout.EVAL, evaluation, layout.EVERY[:-1], "eval", decided.evaluation),
)
"""Those that a recipe with preferences has besides, or in place of the ones above."""


def stages_of(recipe: Recipe) -> list[Stage]:
    """The stages of a recipe, in order."""
    known = {stage.name: stage for stage in STAGES}
    if recipe.dpo:
        known |= {stage.name: stage for stage in _PREFERENCES}
    return [known[name] for name in sorted(known) if layout.in_recipe(name, recipe)]
