"""Commands that train or measure on the user's own files: pretrain, sft, eval."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from hanpaca.cli.display import errors, minutes, print_table
from hanpaca.cli.tools import BaseFolder, Output, Texts
from hanpaca.errors import ArtifactError, DataError
from hanpaca.recipe import PretrainSection, SftSection, load_section

if TYPE_CHECKING:
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
Kind = TypeVar("Kind", PretrainSection, SftSection)
_PROBED = 16


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
) -> None:
    """Continue pretraining on your own text; writes an adapter. Run again to resume."""
    from hanpaca.data.text import read_documents
    from hanpaca.pipeline.pretrain import PretrainTexts, pretrain_on

    section = _section(PretrainSection, num_tokens, replay, settings)
    texts = [document.text for document in read_documents(text)]
    if len(texts) < 2:
        raise DataError(f"{text[0]}: at least two documents are needed: one is held out to measure")
    replayed = [document.text for document in read_documents(replay or [])]
    num_heldout = min(_PROBED, len(texts) // 2)
    _train(
        output,
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

    section = _section(SftSection, num_tokens, None, settings)
    conversations = [conversation for conversation, _ in read_conversations(instructions)]
    if not conversations:
        raise DataError(f"{instructions[0]}: there is no conversation in it")
    _train(
        output,
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
) -> None:
    """Bits per character and tokens per character of models on your own text."""
    from hanpaca.data.text import read_documents
    from hanpaca.pipeline.evaluate import score_folder

    texts = [document.text for document in read_documents(text)]
    rows = []
    for folder in models:
        score = score_folder(folder, texts, scripts=tuple(script or []))
        rows.append(
            (
                str(folder),
                f"{score.bits_per_character:.4f}",
                f"{score.tokens_per_character:.4f}",
                str(score.num_characters),
            )
        )
    print_table(("model", "bits/char", "tokens/char", "characters"), rows)


def _section(
    kind: type[Kind], num_tokens: int, replay: list[Path] | None, settings: list[str] | None
) -> Kind:
    """A recipe section from options; without replay text, nothing is replayed."""
    tree: dict[str, Any] = {"num_tokens": num_tokens}
    if not replay:
        tree["replay_fraction"] = 0.0
    return load_section(kind, tree, settings or [])


def _train(output: Path, work: Callable[[Path], dict[str, Any]]) -> None:
    """Work beside the output and give it its name at the end; what was interrupted is resumed."""
    if output.exists():
        raise ArtifactError(f"{output}: already exists; remove it or give another folder")
    partial = output.with_name(output.name + ".partial")
    partial.mkdir(parents=True, exist_ok=True)
    metrics = work(partial)
    shutil.rmtree(partial / "checkpoints", ignore_errors=True)
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
