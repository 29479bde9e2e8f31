"""80-eval: every model of the run on the same held-out text, questions and prompts."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from hanpaca.data.builtin.material import TaskQuestion
from hanpaca.data.jsonl import read_jsonl, read_texts
from hanpaca.errors import DataError
from hanpaca.evals.results import (
    BITS,
    Curve,
    Goal,
    Provenance,
    RunResult,
    TaskResult,
    write_results,
)
from hanpaca.evals.tasks.forgetting import LEAST_KEPT, Kept, bits_kept
from hanpaca.evals.tasks.languages import language_name, language_of_texts
from hanpaca.files import CHECKPOINTS
from hanpaca.manifests import environment, read_manifest
from hanpaca.progress import Progress
from hanpaca.report.run_page import write_report
from hanpaca.report.wording import own_language
from hanpaca.runs import layout
from hanpaca.runs.builtin import licences
from hanpaca.runs.layout import Job
from hanpaca.runs.materials import MIN_MEASURED
from hanpaca.steps.abilities import compare_abilities
from hanpaca.steps.ask_tasks import ask_tasks
from hanpaca.steps.candidates import Candidate
from hanpaca.steps.evaluate import Material, evaluate, goals
from hanpaca.steps.write_gguf import folder_to_gguf, gguf_to_folder
from hanpaca.training.monitor import HELDOUT, RAISED, REPLAY_HELDOUT

_SPEED_FILE_TYPE = "f16"
KEPT_GOAL = "correct English answers, against the base"


def evaluate_run(job: Job, folder: Path) -> Mapping[str, Any]:
    """Measure, judge, and write results.json and report.html."""
    scratch = folder / CHECKPOINTS  # removed when the stage is done
    scratch.mkdir(exist_ok=True)
    material = _material(job)
    candidates = _candidates(job, scratch)
    final = next(one for one in candidates if one.asked)
    measured = evaluate(
        candidates,
        material,
        title=job.recipe.name,
        tell=job.tell,
    )
    kept = _kept(job, candidates) if job.recipe.eval.english_questions else None
    goal = (Goal(KEPT_GOAL, 100 * kept.share, "at least", 100 * LEAST_KEPT, "%"),) if kept else ()
    result = replace(
        measured,
        curves=_curves(job),
        tasks=_tasks(job, candidates),
        goals=(*goals(measured.models, measured.languages), *goal),
        provenance=_provenance(job),
        notes=(
            *job.recipe.eval.notes,
            *measured.notes,
            *_monitor_notes(job),
            *_bits_note(measured, final.name, job.recipe.seed),
            *((str(kept),) if kept else ()),
        ),
    )
    write_results(result, folder / layout.RESULTS)
    write_report(result, folder / layout.REPORT)
    for lang in own_language(job.recipe.language):
        write_report(result, folder / f"report.{lang}.html", lang=lang)
    return {goal.name: round(goal.measured, 4) for goal in result.goals}


def _bits_note(result: RunResult, final: str, seed: int) -> Iterator[str]:
    """What became of the old language's bits, text by text, from the base to the final model."""
    kept = result.languages[-1]
    models = {model.name: model for model in result.models}
    before, after = (models[name].get(kept, BITS) for name in (result.models[0].name, final))
    if before and after and before is not after:
        found = bits_kept(before.per_text, after.per_text, seed=seed)
        yield found.sentence(language_name(kept))


def _kept(job: Job, candidates: Sequence[Candidate]) -> Kept | None:
    """English answers of the base and of the final model."""
    base, final = candidates[0], next(one for one in candidates if one.asked)
    if final is base or not (base.gguf and final.gguf):
        return None
    job.tell(Progress(0, note="asking base and final model short English questions"))
    try:
        return compare_abilities(base.gguf, final.gguf, seed=job.recipe.seed)
    except DataError as error:  # a base that knows nothing has nothing to forget
        job.tell(Progress(0, note=error.message))
        return None


def _tasks(job: Job, candidates: Sequence[Candidate]) -> tuple[TaskResult, ...]:
    """What base and final model answer on held-out items of the builtin texts."""
    if not job.recipe.eval.tasks:
        return ()
    final = next(one for one in candidates if one.asked)
    rows = read_jsonl(job.stage(layout.DATA) / layout.TASKS)
    asked = [
        TaskQuestion(row["task"], row["question"], tuple(row["answers"]), tuple(row["options"]))
        for row in rows
    ]
    files = {one.name: one.gguf for one in (candidates[0], final) if one.gguf}
    most = job.recipe.eval.num_task_questions
    return ask_tasks(files, asked, most=most, tell=job.tell)


def _material(job: Job) -> Material:
    source, settings = job.stage(layout.DATA), job.recipe.eval
    learned = read_texts(source / layout.TEXT_HELDOUT)
    kept = read_texts(source / layout.REPLAY_HELDOUT)
    return Material(
        texts={
            job.recipe.language: _up_to(learned, settings.heldout_characters),
            language_of_texts(kept, besides=job.recipe.language): _up_to(
                kept, settings.english_characters
            ),
        },
        questions=list(read_jsonl(source / layout.QUESTIONS))[: settings.num_questions],
        scripts=layout.measured_scripts(job.recipe),
        max_answer_tokens=settings.max_answer_tokens,
        seed=job.recipe.seed,
    )


def _up_to(texts: Sequence[str], num_characters: int) -> list[str]:
    """The first texts, until there are enough characters; a text longer than 2,000 is cut.

    Two at least: with one there is no error bar.
    """
    kept: list[str] = []
    for text in texts:
        if len(kept) >= MIN_MEASURED and sum(map(len, kept)) >= num_characters:
            break
        kept.append(text[:2_000])
    return kept


def _candidates(job: Job, scratch: Path) -> list[Candidate]:
    answering = {"tuned": layout.SFT, "chat": layout.DPO}
    trained = {"pretrained": layout.PRETRAIN} | (
        answering if job.recipe.dpo else {"chat": layout.SFT}
    )
    made = {name: layout.model_after(stage, job.recipe) for name, stage in trained.items()}
    folders = {"base": job.base} | {name: job.stage(stage) for name, stage in made.items() if stage}
    last = next(reversed(folders))
    how = "bits per character with torch in bfloat16; speed and answers with llama.cpp, f16"
    found = []
    for name, folder in folders.items():
        final = name == last
        file = scratch / f"{name}.gguf"
        if final and _SPEED_FILE_TYPE in job.recipe.gguf.types:
            file = job.gguf(_SPEED_FILE_TYPE)
        if not file.exists():
            job.tell(Progress(0, note=f"writing {name} as {_SPEED_FILE_TYPE} for llama.cpp"))
            folder_to_gguf(folder, file, file_type=_SPEED_FILE_TYPE, metadata={})
        kind = _SPEED_FILE_TYPE if final else None
        found.append(Candidate(name, folder, file, how, asked=final, file_type=kind))
    for file_type in job.recipe.gguf.types:
        if file_type in ("f32", "f16", "bf16"):
            continue
        file = job.gguf(file_type)
        back = scratch / f"from-{file_type}"
        if not back.exists():
            gguf_to_folder(file, back)
        note = f"bits per character with its {file_type} weights read back; the rest with llama.cpp"
        name = f"{last} {file_type}"
        found.append(Candidate(name, back, file, note, asked=False, file_type=file_type))
    return found


def _trained(job: Job) -> list[tuple[str, str]]:
    """The trainings of a run, and their stages."""
    trained = {
        "pretraining": layout.PRETRAIN,
        "instruction tuning": layout.SFT,
        "preference tuning": layout.DPO,
    }
    return [one for one in trained.items() if layout.in_recipe(one[1], job.recipe)]


def _monitor_notes(job: Job) -> Iterator[str]:
    """What was decided while training, as the old language suffered."""
    for name, stage in _trained(job):
        for row in read_jsonl(job.stage(stage) / layout.METRICS):
            if RAISED in row:
                yield (
                    f"After step {row['step']} of {name} the old language suffered, and replay got "
                    f"{row[RAISED]:.0%} of the blocks."
                )
        if kept := read_manifest(job.stage(stage)).metrics.get("kept_step"):
            yield f"Of {name} the adapter of step {kept} was kept."


def _curves(job: Job) -> tuple[Curve, ...]:
    curves = []
    kept = read_texts(job.stage(layout.DATA) / layout.REPLAY_HELDOUT)
    measured = {
        job.recipe.language: HELDOUT,
        language_of_texts(kept, besides=job.recipe.language): REPLAY_HELDOUT,
    }
    for name, stage in _trained(job):
        rows = list(read_jsonl(job.stage(stage) / layout.METRICS))
        for language, score in measured.items():
            points = tuple(
                (float(row["seconds"]), float(row[score])) for row in rows if score in row
            )
            if points:
                curves.append(Curve(name, language, "seconds", points))
    return tuple(curves)


def _provenance(job: Job) -> tuple[Provenance, ...]:
    earlier = layout.read_in(job.recipe, layout.EVERY[:-1])
    keys = [Provenance(name, read_manifest(job.stage(name)).key) for name in earlier]
    versions = [Provenance(name, value) for name, value in environment().items()]
    recipe = job.recipe
    texts, talks = ", ".join(recipe.data.text), ", ".join(recipe.data.instructions)
    named = {"base": recipe.base, "data.text": texts}
    named |= {} if texts else {"data.instructions": talks}
    made_of = [Provenance(name, value) for name, value in named.items() if value]
    return (*made_of, *licences(recipe), *keys, *versions)
