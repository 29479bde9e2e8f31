"""The command chat, and what several commands share."""

import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, TextIO

import typer

from hanpaca.cli.display import byte_counter, errors
from hanpaca.progress import Progress, Tell

Output = Annotated[Path, typer.Option("--output", "-o", help="Folder to write; must not exist.")]
BaseFolder = Annotated[Path, typer.Option("--base", help="Hugging Face folder of the base model.")]
Texts = Annotated[
    list[Path],
    typer.Option("--text", help="Text (.txt, .md, .jsonl, .parquet; packed or not); repeatable."),
]
Encoding = Annotated[str, typer.Option("--encoding", help="Of the text, such as gb18030.")]
TextField = Annotated[str, typer.Option("--text-field", help="Of .jsonl lines, .parquet rows.")]


def chat(
    model: Annotated[
        Path,
        typer.Argument(
            metavar="MODEL", help="A run, a GGUF file, a folder of them, or a model folder."
        ),
    ],
    question: Annotated[
        str | None, typer.Argument(help="Ask only this; without it, talk in the terminal.")
    ] = None,
    questions: Annotated[
        Path | None, typer.Option("--input", help="JSON of questions, each answered by itself.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="JSON lines of their answers.")
    ] = None,
    adapter: Annotated[
        list[Path] | None, typer.Option(help="LoRA to fold into MODEL; repeatable.")
    ] = None,
    system: Annotated[str | None, typer.Option(help="System prompt.")] = None,
    template: Annotated[
        str | None,
        typer.Option(help="A name of docs/chat.md, such as chatml, or a Jinja file; else its own."),
    ] = None,
    raw: Annotated[
        bool, typer.Option("--raw", help="Continue each text alone, without a template.")
    ] = False,
    exact: Annotated[
        bool, typer.Option("--exact", help="Write a model folder as F16, not as Q8_0.")
    ] = False,
    encoding: Annotated[str, typer.Option(help="Of lines from a pipe, such as gb18030.")] = "utf-8",
    max_tokens: Annotated[int, typer.Option(help="Most tokens of an answer.")] = 512,
    temperature: Annotated[float, typer.Option(help="0 takes the likeliest token.")] = 0.0,
    top_k: Annotated[int, typer.Option(help="Draw from so many tokens; 0 for all.")] = 40,
    top_p: Annotated[float, typer.Option(help="Draw from tokens of this probability.")] = 0.95,
    min_p: Annotated[float, typer.Option(help="Least share of the likeliest token's.")] = 0.05,
    repeat_penalty: Annotated[float, typer.Option(help="1 for none.")] = 1.1,
    seed: Annotated[int, typer.Option(help="For temperatures above 0.")] = 0,
    context_tokens: Annotated[int, typer.Option(help="Room for the conversation.")] = 2048,
    threads: Annotated[int | None, typer.Option(help="Else as many as cores are free.")] = None,
) -> None:
    """Chat in the terminal; /help shows what else it can do."""
    from hanpaca.cli.chat_batch import check_batch, run_batch
    from hanpaca.cli.chat_lines import at_terminal, piped_lines, typed_lines
    from hanpaca.cli.chat_talk import TerminalTalk
    from hanpaca.steps.chat import Chat, Loading, Sampling

    sampling = Sampling(max_tokens, temperature, top_k, top_p, min_p, repeat_penalty, seed)
    loading = Loading(context_tokens, threads, template, raw, exact)
    batch = check_batch(questions, output, question)
    typed = at_terminal() and question is None and not batch
    read = typed_lines() if typed else piped_lines(sys.stdin.buffer, encoding)
    signal.signal(signal.SIGTERM, leave)
    with Chat(
        model,
        adapters=adapter or (),
        system=system,
        sampling=sampling,
        loading=loading,
        tell=teller(),
    ) as loaded:
        _note(loaded.described + (". /help shows the commands." if typed else ""))
        if questions and output:
            run_batch(loaded, questions, output, encoding)
            return
        talk = TerminalTalk(loaded, read, _write, _note, typed)
        if question is None:
            talk.run()
        else:
            talk.say(loaded.stream(question))
        if talk.failed and not typed:
            sys.exit(talk.failed.exit_code)


def read_texts(
    paths: Sequence[Path], *, encoding: str, text_field: str, doing: str = "reading"
) -> Iterator[str]:
    """Stream documents from the user's files, with a progress line where it takes long."""
    from hanpaca import read_documents

    documents = read_documents(
        paths,
        encoding=encoding,
        text_field=text_field,
        on_bytes=byte_counter(doing),
        tell=lambda one: errors.print(one.note, markup=False, soft_wrap=True),
    )
    return (document.text for document in documents)


def teller() -> Tell:
    """Notes as lines, bytes as a progress line."""
    count = byte_counter("writing")

    def tell(progress: Progress) -> None:
        if progress.unit == "bytes":
            count(int(progress.done), int(progress.total or 0))
        else:
            _note(progress.note)

    return tell


def leave(number: int, frame: object) -> None:
    """End as a program should that is told to: what is open is closed."""
    sys.exit(128 + number)


def _note(line: str) -> None:
    text = "".join(c if c.isprintable() or c == "\n" else "?" for c in line)
    _show(sys.stderr, text + "\n")


def _write(text: str) -> None:
    _show(sys.stdout, text)


def _show(stream: TextIO, text: str) -> None:
    encoding = stream.encoding or "utf-8"
    stream.write(text.encode(encoding, errors="replace").decode(encoding))
    stream.flush()
