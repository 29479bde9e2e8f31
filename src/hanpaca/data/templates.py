"""Conversations as a model reads them: templates, and the ids that serving gives.

A model is asked with the ids of the whole prompt, so it is taught on these: a part of a text has
other ids than the same characters inside the whole (SentencePiece puts a `▁` before each part,
byte-level rules split line breaks by what follows them).
"""

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from jinja2 import TemplateError

from hanpaca.data.conversations import Conversation
from hanpaca.data.named_templates import NAMED
from hanpaca.data.pack import IGNORED
from hanpaca.errors import ArtifactError, DataError, RecipeError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

Messages = Sequence[Mapping[str, str]]
Labelled = tuple[list[int], list[int]]
"""Ids and labels, of the same length; labels are -100 where nothing is learned."""
# Nothing merges with at least one of these, whatever follows.
_ANCHORS = ("\n", "a", "。", ":", "1")
_ADVISED = ("chatml", "alpaca")
"""Where a template does not work."""
REFUSALS = (TemplateError, TypeError, LookupError, ValueError, AttributeError)
"""What a template raises over a conversation that it does not provide for."""


@dataclass(frozen=True)
class Writer:
    """How one model's conversations are written and encoded."""

    render: Callable[[Messages, bool], str]
    """The chat template: messages, and whether to add the generation prompt."""
    encode: Callable[[str], tuple[list[int], list[int]]]
    """A whole text to its ids as served, and the position of each id's first character."""

    @classmethod
    def of(cls, tokenizer: "PreTrainedTokenizerFast") -> "Writer":
        """As llama.cpp does it: one BOS where the tokenizer adds one, and no other than that.

        A BOS that the template writes as well is taken for the same one, as llama.cpp takes it.
        """
        added = list(tokenizer("", add_special_tokens=True)["input_ids"])
        start = [tokenizer.bos_token_id] if added[:1] == [tokenizer.bos_token_id] else []
        bos = str(tokenizer.bos_token) if start else ""

        def render(messages: Messages, prompt: bool) -> str:
            return str(
                tokenizer.apply_chat_template(
                    [dict(message) for message in messages],
                    tokenize=False,
                    add_generation_prompt=prompt,
                )
            )

        def encode(text: str) -> tuple[list[int], list[int]]:
            rest = text.removeprefix(bos)
            found = tokenizer(
                rest, add_special_tokens=False, return_offsets_mapping=True, verbose=False
            )
            skipped = len(text) - len(rest)
            starts = [skipped + begin for begin, _ in found["offset_mapping"]]
            return [*start, *found["input_ids"]], [0] * len(start) + starts

        return cls(render, encode)


def encode_conversation(conversation: Conversation, writer: Writer) -> list[Labelled]:
    """Turn a conversation into ids and labels: only answers are learned.

    The ids before an answer are those of its prompt alone, as serving encodes it. An answer's
    labels take in the token that ends it, so that the model learns to stop. One sequence holds all
    answers, but where a later prompt does not begin with the ids of the answer before (because a
    text is split otherwise once more follows, or the template rewrites earlier turns), a new
    sequence begins, so that every answer is learned once and after the ids it will follow.

    Args:
        conversation: Any number of turns.
        writer: Template and tokenizer.

    Raises:
        ArtifactError: The template writes an answer otherwise than after its own prompt.
        DataError: The template refuses the conversation.
    """
    sequences: list[Labelled] = []
    messages: list[dict[str, str]] = []
    last = 0
    for message in conversation:
        prompt = _rendered(writer, messages, True) if message.role == "assistant" else ""
        messages.append({"role": message.role, "content": message.content})
        if message.role != "assistant":
            continue
        ids, first, end = _answer(writer, prompt, _rendered(writer, messages, False))
        labels = [IGNORED] * len(ids)
        if message.learned:
            labels[first:end] = ids[first:end]
        if sequences and ids[:last] == sequences[-1][0][:last]:
            labels[:last] = sequences.pop()[1][:last]
        sequences.append((ids, labels))
        last = end
    return [one for one in sequences if any(label != IGNORED for label in one[1])]


def choose_template(tokenizer: "PreTrainedTokenizerFast", name: str) -> str:
    """The template of a name, `base` for the model's own; its answers can end.

    A model stops at a token. A mark that is spelled out in pieces, as ChatML's are on a vocabulary
    without them, or a template that writes nothing after an answer, would let it go on for ever.

    Raises:
        RecipeError: `base` is asked for, but the model has no template of its own, or nothing that
            the template writes after an answer is a token.
    """
    template = NAMED.get(name) or _own(tokenizer)
    ending = _ending(tokenizer, template)
    if ending is None:
        return template
    fitting = [one for one in _ADVISED if _ending(tokenizer, NAMED[one]) is None]
    raise RecipeError(
        f"template {name}: it ends an answer with {ending!r}, which is no token of this "
        "vocabulary, so that no answer would ever end",
        f"set {{template}} to {' or '.join(fitting)}"
        if fitting
        else "name an eos_token in the base's tokenizer_config.json",
    )


def _own(tokenizer: "PreTrainedTokenizerFast") -> str:
    """The model's own template; of several with names, the one that transformers takes."""
    found = tokenizer.chat_template
    if isinstance(found, Mapping):
        if "default" not in found:
            raise RecipeError(
                f"the base model has chat templates named {', '.join(sorted(found))}, but none "
                "named default",
                "name one so in its tokenizer_config.json, or set {template} to alpaca or chatml",
            )
        found = found["default"]
    if not isinstance(found, str):
        raise RecipeError(
            "the base model has no chat template of its own", "set {template} to alpaca or chatml"
        )
    return found


def _ending(tokenizer: "PreTrainedTokenizerFast", template: str) -> str | None:
    """What a template ends an answer with, where no token of the vocabulary is in it."""
    answer = "Zq"
    turns = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": answer}]
    try:
        text = str(tokenizer.apply_chat_template(turns, chat_template=template, tokenize=False))
    except REFUSALS as error:
        reason = " ".join(str(error).split())[:200]
        raise RecipeError(
            f"the chat template refuses even a question with its answer: {reason}",
            "set {template} to alpaca or chatml",
        ) from error
    ending = text.rpartition(answer)[2].strip()
    marks = set(tokenizer.added_tokens_decoder) - {tokenizer.unk_token_id}
    ids = tokenizer(ending, add_special_tokens=False)["input_ids"]
    return None if marks.intersection(ids) else ending


def _rendered(writer: Writer, messages: Messages, prompt: bool) -> str:
    try:
        return writer.render(messages, prompt)
    except REFUSALS as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise DataError(f"the chat template refuses this conversation: {reason}") from error


def _answer(writer: Writer, prompt: str, text: str) -> tuple[list[int], int, int]:
    """Ids of a conversation that ends with an answer, and where its labels begin and end."""
    if not text.startswith(prompt):
        raise ArtifactError(
            "the chat template rewrites earlier turns when an answer is added",
            "set {template} to chatml or alpaca",
        )
    before, _ = writer.encode(prompt)
    ids, starts = writer.encode(text)
    if ids[: len(before)] != before:
        rest, positions = _continued(writer, text[len(prompt) :])
        ids = before + rest
        starts = [0] * len(before) + [len(prompt) + position for position in positions]
    # What follows the end-of-turn token (a line break in ChatML) is the next turn's.
    return ids, len(before), bisect_left(starts, len(text.rstrip("\n")))


def _continued(writer: Writer, text: str) -> tuple[list[int], list[int]]:
    """Ids of a text that goes on from another: without BOS and without SentencePiece's `▁`."""
    for anchor in _ANCHORS:
        first, _ = writer.encode(anchor)
        ids, starts = writer.encode(anchor + text)
        size = len(first)
        if ids[:size] == first:
            return ids[size:], [start - len(anchor) for start in starts[size:]]
    nothing, _ = writer.encode("")
    ids, starts = writer.encode(text)
    return ids[len(nothing) :], starts[len(nothing) :]
