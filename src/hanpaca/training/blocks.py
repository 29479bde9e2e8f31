"""The blocks of a training, out of the cache or made for it, and no more than it will see.

They lie in the user's cache and not in a run's folder: the same blocks serve a run, a step by
itself, the same training in another folder and each change of a rate, which all have other folders.
"""

import hashlib
import importlib.metadata
import json
import random
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerFast

from hanpaca.data.conversations import Conversation, as_row
from hanpaca.data.fitting import CUT_PROMPTS, TOO_LONG, fitted_sequences
from hanpaca.data.pack import Packable
from hanpaca.data.sources import Source
from hanpaca.data.templates import Writer
from hanpaca.data.token_cache import BlockShape, StoredTokens, kept_tokens
from hanpaca.errors import DataError, RecipeError
from hanpaca.files import digest_of
from hanpaca.model.load import end_token, start_token
from hanpaca.progress import Progress, Tell, silent
from hanpaca.tokenizer.conversion.fast import cache_folder

TEXTS, REFUSED = "texts", "rows refused"
WHOLE_BYTES = 1 << 26
"""Of text that is made into tokens whole: seconds. From more than this, documents are drawn."""
_VERSION = 1
_BATCH_CHARACTERS = 1 << 20
_SPARE = 1.1
"""Times the tokens needed: blocks are not quite full."""
_CHARACTERS_A_TOKEN = 8
"""More than any text has, on the whole."""
_SECONDS_BETWEEN = 5.0


@dataclass(frozen=True)
class Cutting:
    """How documents become blocks."""

    block_tokens: int
    documents: Literal["apart", "joined"] = "apart"
    overlap_tokens: int = 0


def text_tokens(
    tokenizer: PreTrainedTokenizerFast,
    texts: Source,
    cutting: Cutting,
    *,
    num_tokens: int | None = None,
    seed: int = 0,
    tell: Tell = silent,
) -> tuple[StoredTokens, int]:
    """Blocks of documents.

    Args:
        tokenizer: Of the model.
        texts: Documents; from more than `WHOLE_BYTES` of them, as many as are needed are drawn.
        cutting: Whether documents see each other, and what of a long one.
        num_tokens: As many as training will see; None for all.
        seed: Of what is drawn.
        tell: Called now and then.

    Returns:
        The blocks, and how many documents were made into tokens for them now: none, where the cache
        had them.

    Raises:
        DataError: There is no document.
        ResourceError: The cache cannot be written.
    """
    is_drawn = num_tokens is not None and texts.num_bytes > WHOLE_BYTES
    most = int(_SPARE * (num_tokens or 0)) + cutting.block_tokens if is_drawn else None
    key = [texts.digest(), vars(cutting), [most, seed] if is_drawn else None]

    def parts(counts: Counter[str]) -> Iterator[Packable]:
        read = texts.drawn(seed, _CHARACTERS_A_TOKEN * most) if most is not None else iter(texts)
        found = _documents(tokenizer, read, cutting, counts=counts, most=most, tell=tell)
        return found if cutting.documents == "apart" else _joined(found, cutting.block_tokens)

    tokens, kept = _kept(tokenizer, cutting.block_tokens, key, parts)
    _tell_kept(tokens, kept, TEXTS, tell)
    return tokens, 0 if kept else tokens.counts[TEXTS]


def conversation_tokens(
    tokenizer: PreTrainedTokenizerFast,
    conversations: Sequence[Conversation],
    *,
    block_tokens: int,
    num_tokens: int,
    places: Sequence[str] = (),
    skip_bad_rows: bool = False,
    seed: int = 0,
    tell: Tell = silent,
) -> tuple[StoredTokens, int]:
    """Blocks of conversations, as many as `num_tokens` need; drawn at random where not all do.

    Args:
        tokenizer: With the template that conversations are written with.
        conversations: To learn from.
        block_tokens: Of a block.
        num_tokens: As many as training will see.
        places: Where each conversation comes from, for messages.
        skip_bad_rows: Leave out and count those that the template refuses.
        seed: Of the draw.
        tell: Called with what was left out or cut.

    Returns:
        As `text_tokens`, of conversations.

    Raises:
        DataError: The template refuses a conversation: names its place. There is no conversation.
        RecipeError: No answer fits a block.
    """
    how = [block_tokens, num_tokens, skip_bad_rows, seed]
    key = [_digest(conversations), str(tokenizer.chat_template), *how]
    read = _Talks(
        conversations,
        places,
        Writer.of(tokenizer),
        block_tokens=block_tokens,
        num_tokens=num_tokens,
        skip_bad_rows=skip_bad_rows,
        seed=seed,
    )
    tokens, kept = _kept(tokenizer, block_tokens, key, read.parts)
    _tell_kept(tokens, kept, "conversations", tell)
    for note in _left_out(tokens.counts):
        tell(Progress(0, note=note))
    return tokens, 0 if kept else tokens.counts[TEXTS]


@dataclass(frozen=True, kw_only=True)
class _Sizes:
    block_tokens: int
    num_tokens: int
    skip_bad_rows: bool
    seed: int


@dataclass(frozen=True)
class _Talks(_Sizes):
    """Conversations that are encoded, as many as are needed."""

    conversations: Sequence[Conversation]
    places: Sequence[str]
    writer: Writer

    def parts(self, counts: Counter[str]) -> Iterator[Packable]:
        """Sequences, in the order of the files where all of them are needed."""
        order = list(range(len(self.conversations)))
        random.Random(self.seed).shuffle(order)
        made: dict[int, list[Packable]] = {}
        size = 0
        for number in order:
            if size > _SPARE * self.num_tokens:
                break
            made[number] = self._encoded(number, counts)
            size += sum(len(part.ids) for part in made[number])
        if self.conversations and not size:
            if counts[REFUSED] == len(self.conversations):
                raise DataError("the chat template refuses every conversation")
            raise RecipeError(
                f"no answer fits the {self.block_tokens} tokens of a block",
                "give more {block_tokens}",
            )
        is_cut = len(made) < len(self.conversations)
        yield from (part for number in (made if is_cut else sorted(made)) for part in made[number])

    def _encoded(self, number: int, counts: Counter[str]) -> list[Packable]:
        talk = self.conversations[number]
        try:
            found = list(fitted_sequences(talk, self.writer, self.block_tokens, counts))
        except DataError as error:
            if self.skip_bad_rows:
                counts[REFUSED] += 1
                return []
            if number >= len(self.places):
                raise
            raise DataError(
                f"{self.places[number]}: {error.message}",
                "mend the row, or set {skip_bad_rows} to leave such rows out",
            ) from error
        counts[TEXTS] += 1
        return [Packable.of(one) for one in found]


def _digest(conversations: Iterable[Conversation]) -> str:
    digest = hashlib.sha256()
    for one in conversations:
        digest.update(json.dumps(as_row(one)).encode() + b"\n")
    return digest.hexdigest()


def _left_out(counts: Mapping[str, int]) -> Iterator[str]:
    if number := counts.get(REFUSED):
        yield f"{number} bad rows are left out: the chat template refuses them"
    if number := counts.get(CUT_PROMPTS):
        yield f"{number} prompts are longer than a block and lose their middle"
    if number := counts.get(TOO_LONG):
        yield f"{number} answers are longer than a block and are left out; longer blocks keep them"


def _kept(
    tokenizer: PreTrainedTokenizerFast,
    block_tokens: int,
    key: Sequence[object],
    parts: Callable[[Counter[str]], Iterable[Packable]],
) -> tuple[StoredTokens, bool]:
    backend = tokenizer.backend_tokenizer
    start, end = start_token(tokenizer), end_token(tokenizer)
    made_of = [
        _VERSION,
        importlib.metadata.version("tokenizers"),
        hashlib.sha256(backend.to_str().encode()).hexdigest(),
        [start, end],
        list(key),
    ]
    folder = cache_folder() / "tokens" / digest_of(made_of)[:32]
    return kept_tokens(folder, BlockShape(block_tokens, end, len(tokenizer)), parts)


def _tell_kept(tokens: StoredTokens, kept: bool, what: str, tell: Tell) -> None:
    size = f"{tokens.num_blocks:,} blocks of {tokens.counts[TEXTS]:,} {what}"
    done = "are there from before" if kept else "are made"
    tell(Progress(0, note=f"tokens: {size} {done} ({tokens.folder})"))


def _documents(
    tokenizer: PreTrainedTokenizerFast,
    texts: Iterable[str],
    cutting: Cutting,
    *,
    counts: Counter[str],
    most: int | None,
    tell: Tell,
) -> Iterator[Packable]:
    """Encoded documents, batch after batch, until there are enough."""
    backend = tokenizer.backend_tokenizer
    backend.no_truncation()
    backend.no_padding()
    start, end = start_token(tokenizer), end_token(tokenizer)
    size = num_bytes = 0
    began = told = time.monotonic()
    for batch in _batches(texts):
        for encoding in backend.encode_batch_fast(batch, add_special_tokens=False):
            ids = np.empty(len(encoding.ids) + 2, np.uint32)
            ids[0], ids[1:-1], ids[-1] = start, encoding.ids, end
            yield from _parts(ids, cutting)
            counts[TEXTS] += 1
            size += len(ids)
            if most is not None and size >= most:
                return
        num_bytes += sum(len(text.encode()) for text in batch)
        if (now := time.monotonic()) > told + _SECONDS_BETWEEN:
            told = now
            note = f"making tokens, {num_bytes / 1e6 / (now - began):.1f} MB/s"
            tell(Progress(size, most, "tokens", note))


def _batches(texts: Iterable[str]) -> Iterator[list[str]]:
    batch: list[str] = []
    size = 0
    for text in texts:
        batch.append(text)
        size += len(text)
        if size >= _BATCH_CHARACTERS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _parts(ids: NDArray[np.uint32], cutting: Cutting) -> Iterator[Packable]:
    """A document; a long one in parts that begin with the end of the part before."""
    if cutting.documents == "joined":
        yield Packable(ids[:-1], [])
        return
    if cutting.overlap_tokens == 0 or len(ids) <= cutting.block_tokens:
        yield Packable(ids, [(1, len(ids))])
        return
    step = cutting.block_tokens - cutting.overlap_tokens
    for begin in range(0, len(ids) - cutting.overlap_tokens, step):
        part = ids[begin : begin + cutting.block_tokens]
        yield Packable(part, [(cutting.overlap_tokens if begin else 1, len(part))])


def _joined(documents: Iterable[Packable], block_tokens: int) -> Iterator[Packable]:
    """Documents one after the other, cut wherever a block is full; the last, unfull one is left."""
    held = np.empty(0, np.uint32)
    for document in documents:
        held = np.concatenate([held, document.ids])
        while len(held) >= block_tokens:
            yield Packable(held[:block_tokens], [(1, block_tokens)])
            held = held[block_tokens:]
