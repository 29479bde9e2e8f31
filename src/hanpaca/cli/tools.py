"""Commands on single files: chat, tokenizer, merge, gguf."""

import json
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from hanpaca.cli.display import byte_counter, print_table
from hanpaca.errors import ArtifactError, RecipeError

Output = Annotated[Path, typer.Option("--output", "-o", help="Folder to write; must not exist.")]
BaseFolder = Annotated[Path, typer.Option("--base", help="Hugging Face folder of the base model.")]
Texts = Annotated[list[Path], typer.Option("--text", help="Text file or folder; repeatable.")]

tokenizer = typer.Typer(name="tokenizer", help="Extend and audit tokenizers.", no_args_is_help=True)


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


@tokenizer.command("extend")
def extend(
    base: BaseFolder,
    text: Texts,
    output: Output,
    num_pieces: Annotated[int, typer.Option(help="Pieces to add, exactly.")],
    script: Annotated[list[str] | None, typer.Option(help="Unicode script; repeatable.")] = None,
) -> None:
    """Add pieces of a script to a byte-level BPE tokenizer, leaving all other text as it was."""
    from hanpaca.data.text import read_documents
    from hanpaca.tokenizer import extend_byte_bpe, write_extension

    _must_not_exist(output)
    texts = (document.text for document in read_documents(text))
    extension = extend_byte_bpe(
        base, texts, num_pieces=num_pieces, scripts=tuple(script or ["Han"])
    )
    write_extension(extension, base, output)
    print(f"{output}: {len(extension.pieces)} new pieces from id {extension.first_id}")


@tokenizer.command("audit")
def audit(
    base: Annotated[Path, typer.Argument(help="Folder of the base tokenizer.")],
    extended: Annotated[Path, typer.Argument(help="Folder of the extended tokenizer.")],
    text: Texts,
    protected: Annotated[
        list[Path] | None, typer.Option(help="Text whose tokens must not change; repeatable.")
    ] = None,
    script: Annotated[list[str] | None, typer.Option(help="Unicode script; repeatable.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")] = False,
) -> None:
    """Compare two tokenizers: dead pieces, changed text, tokens per character."""
    from hanpaca.data.text import read_documents
    from hanpaca.tokenizer import audit_extension

    found = asdict(
        audit_extension(
            base,
            extended,
            texts=[document.text for document in read_documents(text)],
            protected=[document.text for document in read_documents(protected or [])],
            scripts=tuple(script or ["Han"]),
        )
    )
    if as_json:
        print(json.dumps(found, ensure_ascii=False, indent=2))
        return
    print_table(
        ("what", "found"),
        [
            (name, str(len(value)) if isinstance(value, list | tuple) else f"{value:g}")
            for name, value in found.items()
        ],
    )


def merge(
    base: BaseFolder,
    adapter: Annotated[Path, typer.Option("--adapter", help="Adapter in peft's format.")],
    output: Output,
) -> None:
    """Fold a LoRA adapter into its base, streaming, rounded once."""
    from hanpaca.model.merge import merge_adapter

    summary = merge_adapter(base, adapter, output, on_bytes=byte_counter("merging"))
    print(f"{output}: {summary.num_changed} of {summary.num_tensors} tensors changed")


def gguf(
    model: Annotated[Path, typer.Argument(help="Hugging Face folder.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the files.")],
    types: Annotated[str, typer.Option(help="Types, separated by commas.")] = "f16,q8_0",
) -> None:
    """Write a model as GGUF files for llama.cpp."""
    from hanpaca.gguf.quantize import FILE_TYPES
    from hanpaca.pipeline.formats import folder_to_gguf

    wanted = [name.strip() for name in types.split(",") if name.strip()]
    for name in wanted:
        if name not in FILE_TYPES:
            raise RecipeError(f"--types: {name!r} is unknown; known: {', '.join(FILE_TYPES)}")
    output.mkdir(parents=True, exist_ok=True)
    for name in wanted:
        file = output / f"{model.resolve().name}.{name}.gguf"
        summary = folder_to_gguf(
            model, file, file_type=name, metadata={}, on_bytes=byte_counter(f"writing {name}")
        )
        print(f"{file}: {summary.num_bytes / 1e6:.0f} MB")


def _gguf_of(model: Path) -> Path:
    """A run's largest chat file, or the file itself."""
    if not model.is_dir():
        return model
    files = sorted(model.glob("70-gguf/*.gguf"), key=lambda file: file.stat().st_size)
    if not files:
        raise ArtifactError(f"{model}: no 70-gguf/*.gguf here; run the recipe first")
    return files[-1]


def _must_not_exist(output: Path) -> None:
    if output.exists():
        raise ArtifactError(f"{output}: already exists; remove it or give another folder")


def _read_line() -> str:
    return input("› " if sys.stdin.isatty() else "")


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()
