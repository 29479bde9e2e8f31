"""Commands that train or measure on the user's own files: grow, pretrain, sft, eval, bakeoff."""

import json
import shutil
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from hanpaca.cli.display import errors, minutes, print_table
from hanpaca.cli.tools import BaseFolder, Encoding, Output, TextField, Texts, read_texts
from hanpaca.cli.whole import written_whole
from hanpaca.errors import ArtifactError, DataError
from hanpaca.recipe import PretrainSection, RowsSection, SftSection, load_section
from hanpaca.runs import write_atomically

if TYPE_CHECKING:
    from hanpaca.pipeline.bakeoff import BakeoffTexts
    from hanpaca.training.journal import Progress

NumTokens = Annotated[int, typer.Option(help="Training tokens in all.")]
NewRows = Annotated[
    int, typer.Option(min=0, help="Rows at the end of the vocabulary to train too.")
]
Seed = Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Of every random choice.")]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", help="A setting as in the recipe, such as learning_rate=1e-4."),
]
Extended = Annotated[Path, typer.Option(help="Folder of the base's extended tokenizer.")]
Kind = TypeVar("Kind", PretrainSection, SftSection)
_PROBED = 16
_BEGUN = "begun.json"
_MEASURED_DOCUMENTS = 50


def grow(
    base: BaseFolder,
    extended: Extended,
    text: Texts,
    output: Output,
    seed: Seed = 0,
    settings: Settings = None,
    encoding: Encoding = "utf-8",
    text_field: TextField = "text",
) -> None:
    """Give a model the rows of its extended tokenizer's new pieces; every old row stays."""
    from hanpaca.pipeline.base import grow_base

    base = _ready(base)
    section = load_section(RowsSection, {}, settings or [])
    spellings = _new_spellings(base, extended)
    texts = list(read_texts(text, encoding=encoding, text_field=text_field))
    if not texts:
        raise DataError(f"{text[0]}: there is no text in it")
    with written_whole(output) as partial:
        partial.mkdir()
        found = grow_base(
            base, extended, spellings, texts, settings=section, seed=seed, folder=partial
        )
    head = "tied" if found["tied"] else "with rows of its own"
    print(
        f"{output}: {found['num_new_rows']} new rows after {found['num_old_rows']}, head {head}; "
        f"train them with --new-rows {found['num_new_rows']}"
    )


def pretrain(
    base: BaseFolder,
    text: Texts,
    output: Output,
    num_tokens: NumTokens,
    replay: Annotated[
        list[Path] | None, typer.Option(help="Text of the old language; repeatable.")
    ] = None,
    new_rows: NewRows = 0,
    seed: Seed = 0,
    settings: Settings = None,
    encoding: Encoding = "utf-8",
    text_field: TextField = "text",
) -> None:
    """Continue pretraining on your own text; writes an adapter. Run again to resume."""
    from hanpaca.pipeline.pretrain import PretrainTexts, pretrain_on

    base = _ready(base)
    section = _section(PretrainSection, num_tokens, replay, settings)
    texts = list(read_texts(text, encoding=encoding, text_field=text_field))
    if len(texts) < 2:
        raise DataError(f"{text[0]}: at least two documents are needed: one is held out to measure")
    replayed = list(read_texts(replay or [], encoding=encoding, text_field=text_field))
    num_heldout = max(1, min(_PROBED, len(texts) // 20))
    errors.print(f"{num_heldout} of {len(texts)} documents are held out to measure on")
    _train(
        output,
        _settings_of("pretrain", [base, *text, *(replay or [])], section, seed, new_rows),
        lambda folder: pretrain_on(
            base,
            PretrainTexts(texts[num_heldout:], replayed, texts[:num_heldout]),
            folder=folder,
            settings=section,
            seed=seed,
            num_new_rows=new_rows,
            on_progress=_show,
        ),
    )


def sft(
    base: BaseFolder,
    instructions: Annotated[
        list[Path], typer.Option(help="Conversations (.json, .jsonl); repeatable.")
    ],
    output: Output,
    num_tokens: NumTokens,
    new_rows: NewRows = 0,
    seed: Seed = 0,
    settings: Settings = None,
) -> None:
    """Tune on your own conversations, loss on answers only; writes an adapter."""
    from hanpaca.data.conversations import read_conversations
    from hanpaca.pipeline.sft import SftTexts, tune_on

    base = _ready(base)
    section = _section(SftSection, num_tokens, None, settings)
    conversations = [conversation for conversation, _ in read_conversations(instructions)]
    if not conversations:
        raise DataError(f"{instructions[0]}: there is no conversation in it")
    _train(
        output,
        _settings_of("sft", [base, *instructions], section, seed, new_rows),
        lambda folder: tune_on(
            base,
            SftTexts(conversations, [], [], conversations[0][0].content),
            folder=folder,
            settings=section,
            seed=seed,
            num_new_rows=new_rows,
            on_progress=_show,
        ),
    )


def evaluate(
    models: Annotated[list[Path], typer.Argument(help="Hugging Face folders to compare.")],
    text: Texts,
    script: Annotated[
        list[str] | None, typer.Option(help="Script for tokens per character; repeatable.")
    ] = None,
    encoding: Encoding = "utf-8",
    text_field: TextField = "text",
) -> None:
    """Bits per character and tokens per character of models on your own text."""
    from hanpaca.pipeline.evaluate import score_folder

    texts = list(read_texts(text, encoding=encoding, text_field=text_field))
    rows = []
    for folder in models:
        score = score_folder(_ready(folder), texts, scripts=tuple(script or []))
        rows.append(
            (
                str(folder),
                f"{score.bits_per_character:.4f}",
                f"{score.tokens_per_character:.4f}",
                str(score.num_characters),
            )
        )
    print_table(("model", "bits/char", "tokens/char", "characters"), rows)


def bakeoff(
    base: BaseFolder,
    extended: Extended,
    text: Texts,
    protected: Annotated[
        list[Path] | None, typer.Option(help="Text of the old language; repeatable.")
    ] = None,
    num_tokens: Annotated[
        int, typer.Option(help="Of the short training; 0 scores the starts alone.")
    ] = 20_000,
    fit_steps: Annotated[
        int, typer.Option(help="Also try input rows fitted for so many steps.")
    ] = 0,
    untie: Annotated[bool, typer.Option(help="Untie the head of a tied base.")] = False,
    encoding: Encoding = "utf-8",
    text_field: TextField = "text",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")] = False,
) -> None:
    """Try the starts of new rows on your base and text, and name the best."""
    from hanpaca.pipeline.bakeoff import bake_off, candidates
    from hanpaca.pipeline.formats import read_config

    base = _ready(base)
    spellings = _new_spellings(base, extended)
    untied = untie or not read_config(base).get("tie_word_embeddings", False)
    with tempfile.TemporaryDirectory(prefix="hanpaca-bakeoff-") as scratch:
        scores = bake_off(
            base,
            extended,
            spellings,
            _bakeoff_texts(
                list(read_texts(text, encoding=encoding, text_field=text_field)),
                read_texts(protected or [], encoding=encoding, text_field=text_field),
            ),
            settings=candidates(untied=untied, num_fit_steps=fit_steps),
            training=_short_training(num_tokens),
            scratch=Path(scratch),
            on_score=lambda score: errors.print(f"{score.name}: {score.start:.3f}", markup=False),
        )
    if as_json:
        print(json.dumps([asdict(score) for score in scores], ensure_ascii=False, indent=2))
        return
    rows = [
        (score.name, *(_number(one) for one in (score.start, score.trained, score.protected)))
        for score in scores
    ]
    header = ("rows", "bits/char at start", f"after {num_tokens} tokens", "old language at the end")
    print_table(header, rows)
    print(f"Best: {scores[0].name}")


def _ready(base: Path) -> Path:
    """The folder itself, or one with links to it and the `tokenizer.json` that it lacks."""
    from hanpaca.pipeline.source import with_fast_tokenizer

    return with_fast_tokenizer(base, lambda text: errors.print(text, markup=False))


def _new_spellings(base: Path, extended: Path) -> list[list[int]]:
    from hanpaca.tokenizer import open_tokenizer
    from hanpaca.tokenizer.vocabulary import new_spellings

    spellings = new_spellings(open_tokenizer(base), open_tokenizer(extended))
    if not spellings:
        raise ArtifactError(f"{extended}: has no piece that {base} has not")
    return spellings


def _bakeoff_texts(texts: list[str], protected: Iterable[str]) -> "BakeoffTexts":
    from hanpaca.pipeline.bakeoff import BakeoffTexts

    if len(texts) < 2:
        raise DataError("--text: at least two documents are needed: one is held out to measure")
    num_heldout = max(1, min(len(texts) // 10, _MEASURED_DOCUMENTS))
    old = list(islice(protected, _MEASURED_DOCUMENTS))
    return BakeoffTexts(texts[num_heldout:], texts[:num_heldout], old)


def _short_training(num_tokens: int) -> PretrainSection | None:
    if num_tokens == 0:
        return None
    return _section(
        PretrainSection, num_tokens, None, ["learning_rate=1e-3", "sample_steps=1000000"]
    )


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _section(
    kind: type[Kind], num_tokens: int, replay: list[Path] | None, settings: list[str] | None
) -> Kind:
    """A recipe section from options; without replay text, nothing is replayed."""
    tree: dict[str, Any] = {"num_tokens": num_tokens}
    if not replay:
        tree["replay_fraction"] = 0.0
    return load_section(kind, tree, settings or [])


def _settings_of(
    command: str, paths: list[Path], section: PretrainSection | SftSection, seed: int, new_rows: int
) -> dict[str, Any]:
    """What a training is begun with, so that no other one goes on from it."""
    files = [file for path in paths for file in ([path] if path.is_file() else path.glob("*"))]
    return {
        "command": command,
        "files": {str(file): file.stat().st_size for file in sorted(files) if file.is_file()},
        "settings": section.model_dump(mode="json"),
        "seed": seed,
        "new_rows": new_rows,
    }


def _train(output: Path, settings: dict[str, Any], work: Callable[[Path], dict[str, Any]]) -> None:
    """Work beside the output and give it its name at the end; what was interrupted is resumed."""
    if output.exists():
        raise ArtifactError(f"{output}: already exists; remove it or give another folder")
    partial = output.with_name(output.name + ".partial")
    begun, text = partial / _BEGUN, json.dumps(settings, indent=1, ensure_ascii=False)
    if begun.exists() and begun.read_text(encoding="utf-8") != text:
        raise ArtifactError(
            f"{partial}: a training with other files or settings was begun here ({_BEGUN} says "
            "which); remove the folder to begin anew, or give the same again to go on"
        )
    partial.mkdir(parents=True, exist_ok=True)
    write_atomically(begun, text)
    metrics = work(partial)
    shutil.rmtree(partial / "checkpoints", ignore_errors=True)
    begun.unlink()
    partial.rename(output)
    print(f"{output}: {metrics['num_steps']} steps, loss {metrics['loss']:.3f}")


def _show(progress: "Progress", sample: str | None) -> None:
    if sample:
        errors.print(f"  the model writes: {sample!r}", markup=False)
    errors.print(
        f"step {progress.step}/{progress.num_steps}, loss {progress.loss:.3f}, "
        f"{progress.tokens_per_second:.0f} tokens/s, {minutes(progress.seconds_left)} left",
        markup=False,
    )
