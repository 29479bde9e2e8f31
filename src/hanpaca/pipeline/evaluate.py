"""80-eval: every model of the run on the same held-out text, questions and prompts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from hanpaca.evals.answers import HeldoutResult, judge_answer, summarise_verdicts
from hanpaca.evals.bits import TextScore, bootstrap_interval, score_texts
from hanpaca.evals.prompts import PROMPTS
from hanpaca.evals.report import write_report
from hanpaca.evals.results import (
    BitsPerCharacter,
    Curve,
    Goal,
    ModelResult,
    Provenance,
    RunResult,
    Sample,
    write_results,
)
from hanpaca.evals.speed import tokens_per_second
from hanpaca.inference.llama import ChatModel
from hanpaca.model.load import load_model, load_tokenizer, start_token
from hanpaca.model.score import negative_log_likelihoods
from hanpaca.pipeline import chat, data, gguf, merged, pretrain, sft, stages
from hanpaca.pipeline.formats import folder_to_gguf, gguf_to_folder
from hanpaca.pipeline.job import Job, Update
from hanpaca.pipeline.jsonl import read_jsonl, read_texts
from hanpaca.runs import CHECKPOINTS, environment, read_manifest

NAME = stages.EVAL
RESULTS, REPORT = "results.json", "report.html"
_TIMED_TOKENS = 96
_TIMED_TEXTS = 4
_OPENING_CHARACTERS = 12
_SPEED_FILE_TYPE = "f16"
_PARALLEL = 8
_EXAMPLES = 12


@dataclass(frozen=True)
class Candidate:
    """One model to be measured."""

    name: str
    folder: Path
    """Weights and tokenizer, for bits per character."""
    gguf: Path
    """For answers and speed."""
    how: str
    asked: bool
    """Whether it answers the held-out questions."""
    file_type: str | None = None
    """Of the final model's files: which it is."""


@dataclass(frozen=True)
class Material:
    """What every model is measured on."""

    chinese: Sequence[str]
    english: Sequence[str]
    questions: Sequence[Mapping[str, str]]
    scripts: Sequence[str]
    max_answer_tokens: int
    seed: int


def work(job: Job, folder: Path) -> Mapping[str, Any]:
    """Measure, judge, and write results.json and report.html."""
    scratch = folder / CHECKPOINTS  # removed when the stage is done
    scratch.mkdir(exist_ok=True)
    material = _material(job)
    candidates = _candidates(job, scratch)
    models: list[ModelResult] = []
    examples: list[HeldoutResult] = []
    for number, candidate in enumerate(candidates):
        job.tell(Update(NAME, f"measuring {candidate.name}", number / len(candidates)))
        measured, judged = measure(candidate, material)
        models.append(measured)
        examples += judged
    result = RunResult(
        title=job.recipe.name,
        models=tuple(models),
        curves=_curves(job),
        goals=goals(models),
        heldout_examples=tuple(examples[:_EXAMPLES]),
        provenance=_provenance(job),
        notes=job.recipe.eval.notes,
    )
    write_results(result, folder / RESULTS)
    write_report(result, folder / REPORT)
    return {goal.name: round(goal.measured, 4) for goal in result.goals}


def measure(candidate: Candidate, material: Material) -> tuple[ModelResult, list[HeldoutResult]]:
    """Measure one model; the second value holds the judged answers to held-out questions."""
    scores = [
        score_folder(candidate.folder, material.chinese, scripts=material.scripts),
        score_folder(candidate.folder, material.english, scripts=()),
    ]
    zh, en = (
        BitsPerCharacter(
            one.bits_per_character,
            *bootstrap_interval(one.per_text_bits, one.per_text_characters, seed=material.seed),
            num_texts=len(one.per_text_bits),
            num_characters=one.num_characters,
        )
        for one in scores
    )
    speed = _tokens_per_second(candidate.gguf, material)
    judged, samples = _answers(candidate, material)
    return (
        ModelResult(
            name=candidate.name,
            how=candidate.how,
            file_bytes=candidate.gguf.stat().st_size,
            tokens_per_han_character=scores[0].tokens_per_character,
            zh=zh,
            en=en,
            tokens_per_second=speed,
            characters_per_second=speed / (scores[0].num_tokens / scores[0].num_characters),
            samples=samples,
            heldout=summarise_verdicts([one.verdict for one in judged]) if judged else None,
            file_type=candidate.file_type,
        ),
        judged,
    )


def score_folder(folder: Path, texts: Sequence[str], *, scripts: Sequence[str]) -> TextScore:
    """Bits and tokens per character of one model on texts; see `hanpaca.evals.bits`."""
    tokenizer, model = load_tokenizer(folder), load_model(folder)

    def encode(text: str) -> list[int]:
        return list(tokenizer.encode(text, add_special_tokens=False))

    return score_texts(
        texts,
        encode=encode,
        negative_log_likelihoods=partial(negative_log_likelihoods, model),
        start_token=start_token(tokenizer),
        scripts=scripts,
    )


def goals(models: Sequence[ModelResult]) -> tuple[Goal, ...]:
    """What an adaptation is for, as numbers: the last models against the first."""
    by_name = {model.name: model for model in models}
    before, pretrained, final = models[0], by_name["pretrained"], models[-1]
    found = []
    if before.zh and pretrained.zh and before.en and pretrained.en:
        fall = 100 * (1 - pretrained.zh.value / before.zh.value)
        rise = 100 * (pretrained.en.value / before.en.value - 1)
        found.append(Goal("held-out Chinese bits/char fall by", fall, "at least", 15, "%"))
        found.append(Goal("English bits/char rise by", rise, "at most", 2, "%"))
    if before.characters_per_second and final.characters_per_second:
        chat_speed = by_name["chat"].characters_per_second or 0.0
        ratio = chat_speed / before.characters_per_second
        found.append(
            Goal("Chinese characters per second, against the base", ratio, "at least", 1.5, "x")
        )
    asked = by_name["chat"].heldout
    if asked:
        share = 100 * asked.passed / asked.num_answers
        name = "held-out questions answered in dictionary style, stopping by itself"
        found.append(Goal(name, share, "at least", 90, "%"))
    return tuple(found)


def _material(job: Job) -> Material:
    source, settings = job.stage(data.NAME), job.recipe.eval
    return Material(
        chinese=_up_to(read_texts(source / data.TEXT_HELDOUT), settings.heldout_characters),
        english=_up_to(read_texts(source / data.REPLAY_HELDOUT), settings.english_characters),
        questions=list(read_jsonl(source / data.QUESTIONS))[: settings.num_questions],
        scripts=job.recipe.tokenizer.scripts,
        max_answer_tokens=settings.max_answer_tokens,
        seed=job.recipe.seed,
    )


def _up_to(texts: Sequence[str], num_characters: int) -> list[str]:
    """The first texts, until there are enough characters; a text longer than 2,000 is cut.

    Two at least: with one there is no error bar.
    """
    kept: list[str] = []
    for text in texts:
        if len(kept) >= data.MIN_MEASURED and sum(map(len, kept)) >= num_characters:
            break
        kept.append(text[:2_000])
    return kept


def _candidates(job: Job, scratch: Path) -> list[Candidate]:
    folders = {"base": job.base, "pretrained": job.stage(merged.NAME), "chat": job.stage(chat.NAME)}
    how = "bits per character with torch in bfloat16; speed and answers with llama.cpp, f16"
    found = []
    for name, folder in folders.items():
        final = name == "chat"
        file = scratch / f"{name}.gguf"
        if final and _SPEED_FILE_TYPE in job.recipe.gguf.types:
            file = job.stage(gguf.NAME) / gguf.file_name(job.recipe, _SPEED_FILE_TYPE)
        if not file.exists():
            job.tell(Update(NAME, f"writing {name} as {_SPEED_FILE_TYPE} for llama.cpp"))
            folder_to_gguf(folder, file, file_type=_SPEED_FILE_TYPE, metadata={})
        kind = _SPEED_FILE_TYPE if final else None
        found.append(Candidate(name, folder, file, how, asked=final, file_type=kind))
    for file_type in job.recipe.gguf.types:
        if file_type in ("f32", "f16", "bf16"):
            continue
        file = job.stage(gguf.NAME) / gguf.file_name(job.recipe, file_type)
        back = scratch / f"from-{file_type}"
        if not back.exists():
            gguf_to_folder(file, back)
        note = f"bits per character with its {file_type} weights read back; the rest with llama.cpp"
        name = f"chat {file_type}"
        found.append(Candidate(name, back, file, note, asked=False, file_type=file_type))
    return found


def _tokens_per_second(gguf_file: Path, material: Material) -> float:
    """Writing speed while continuing held-out Chinese, one text after another."""
    with ChatModel(gguf_file) as model:
        timed = [
            model.complete(text[:_OPENING_CHARACTERS], max_tokens=_TIMED_TOKENS, ignore_end=True)
            for text in material.chinese[: _TIMED_TEXTS + 1]
        ]
    return tokens_per_second([(one.num_tokens, one.seconds) for one in timed[1:]])


def _answers(
    candidate: Candidate, material: Material
) -> tuple[list[HeldoutResult], tuple[Sample, ...]]:
    limit = material.max_answer_tokens
    prompts = [prompt.text for prompt in PROMPTS]
    questions = [row["question"] for row in material.questions] if candidate.asked else []
    with ChatModel(candidate.gguf, context_tokens=1024, num_parallel=_PARALLEL) as model:
        answers = model.answer_many(
            [[{"role": "user", "content": text}] for text in (*prompts, *questions)],
            max_tokens=limit,
        )
    samples = tuple(
        Sample(prompt, answer.text) for prompt, answer in zip(prompts, answers, strict=False)
    )
    judged = [
        HeldoutResult(
            model=candidate.name,
            word=row["word"],
            question=row["question"],
            answer=answer.text,
            reference=row["reference"],
            verdict=judge_answer(answer.text, word=row["word"], stopped=answer.stopped),
        )
        for row, answer in zip(material.questions, answers[len(prompts) :], strict=False)
    ]
    return judged, samples


def _curves(job: Job) -> tuple[Curve, ...]:
    curves = []
    for name, stage in (("pretraining", pretrain.NAME), ("instruction tuning", sft.NAME)):
        rows = [
            row
            for row in read_jsonl(job.stage(stage) / "metrics.jsonl")
            if "heldout_bits_per_character" in row
        ]
        points = tuple(
            (float(row["seconds"]), float(row["heldout_bits_per_character"])) for row in rows
        )
        curves.append(Curve(name, "zh", "seconds", points))
    return tuple(curves)


def _provenance(job: Job) -> tuple[Provenance, ...]:
    keys = [Provenance(name, read_manifest(job.stage(name)).key) for name in stages.EARLIER]
    versions = [Provenance(name, value) for name, value in environment().items()]
    return (*keys, *versions)
