"""The command chat, and what several commands share."""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import typer

from hanpaca.cli.display import byte_counter
from hanpaca.errors import ArtifactError

Output = Annotated[Path, typer.Option("--output", "-o", help="Folder to write; must not exist.")]
BaseFolder = Annotated[Path, typer.Option("--base", help="Hugging Face folder of the base model.")]
Texts = Annotated[
    list[Path],
    typer.Option("--text", help="Text (.txt, .md, .jsonl, .parquet; packed or not); repeatable."),
]
Encoding = Annotated[str, typer.Option("--encoding", help="Of the text, such as gb18030.")]
TextField = Annotated[str, typer.Option("--text-field", help="Of .jsonl lines, .parquet rows.")]


def chat(
    model: Annotated[Path, typer.Argument(metavar="RUN|GGUF", help="A run folder or a GGUF file.")],
    system: Annotated[str | None, typer.Option(help="System prompt.")] = None,
    max_tokens: Annotated[int, typer.Option(help="Most tokens of an answer.")] = 512,
    temperature: Annotated[float, typer.Option(help="0 takes the likeliest token.")] = 0.0,
    seed: Annotated[int, typer.Option(help="For temperatures above 0.")] = 0,
    context_tokens: Annotated[int, typer.Option(help="Room for the conversation.")] = 2048,
) -> None:
    """Chat in the terminal; Ctrl-C stops an answer, /exit leaves."""
    from hanpaca.inference.chat import HELP, Message, chat_loop
    from hanpaca.inference.llama import ChatModel

    file = _gguf_of(model)
    with ChatModel(file, context_tokens=context_tokens) as loaded:
        print(f"{file.name}. {HELP}", file=sys.stderr)

        def stream(messages: list[Message]) -> Iterator[str]:
            return loaded.stream(
                messages, max_tokens=max_tokens, temperature=temperature, seed=seed
            )

        chat_loop(stream, read=_read_line, write=_write, system=system)


def read_texts(
    paths: Sequence[Path], *, encoding: str, text_field: str, doing: str = "reading"
) -> Iterator[str]:
    """Stream documents from the user's files, with a progress line where it takes long."""
    from hanpaca.data.text import read_documents

    documents = read_documents(
        paths, encoding=encoding, text_field=text_field, on_bytes=byte_counter(doing)
    )
    return (document.text for document in documents)


def _gguf_of(model: Path) -> Path:
    """A run's largest chat file, or the file itself."""
    if not model.is_dir():
        return model
    files = sorted(model.glob("70-gguf/*.gguf"), key=lambda file: file.stat().st_size)
    if not files:
        raise ArtifactError(f"{model}: no 70-gguf/*.gguf here; run the recipe first")
    return files[-1]


def _read_line() -> str:
    return input("› " if sys.stdin.isatty() else "")


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()
