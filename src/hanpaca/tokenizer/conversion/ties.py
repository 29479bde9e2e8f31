"""SentencePiece pieces of equal score: where engines that work from a merge list must differ.

sentencepiece joins, of two pairs with the same score, the left one. A merge list, as in
`tokenizer.json` and in engines that rank pairs, gives each pair a rank of its own. That makes a
difference only where pairs compete. In the text X Y Z the pair (X, Y) is left of (Y, Z), so the
list must have it first; and so it must everything of that score that makes X, as in P Q Y Z with
X = PQ. If a chain of such demands comes back to its beginning, no list can meet them all: the pairs
that no list can order are those on a common cycle of the graph of demands. Otherwise the list in
the direction of the graph says what sentencepiece says, if no piece scores higher than one that it
is made of; models have that order from their training.
"""

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass

from tokenizers import AddedToken, Tokenizer, models

from hanpaca.tokenizer.sentencepiece_bpe import NORMAL, SPACE, SentencePieceBPE

_USER_DEFINED = 4
_MAX_EXAMPLES = 10
_LEFT_OF, _MADE = 0, 1

Pair = tuple[str, str]
Node = Hashable


@dataclass(frozen=True)
class Ties:
    """Pieces of a SentencePiece model that share their score.

    Attributes:
        num_tied: pieces, made by joining others, whose score some other such piece has too.
        num_unorderable: tied pieces with a pair that no merge list can put in the right place.
        unorderable: the first few of them.
    """

    num_tied: int
    num_unorderable: int
    unorderable: tuple[str, ...]


NO_TIES = Ties(0, 0, ())
"""Of byte-level BPE: its file is a merge list."""


def find_ties(tokenizer: SentencePieceBPE) -> Ties:
    """Count the pieces of equal score, and those that engines will order differently."""
    tied = 0
    unorderable: list[str] = []
    for pairs in _pairs_by_score(tokenizer).values():
        pieces = dict.fromkeys(x + y for x, y in pairs)
        if len(pieces) < 2:
            continue
        rank = _ranks(pairs)
        size = Counter(rank[pair] for pair in pairs)
        circular = {x + y for x, y in pairs if size[rank[x, y]] > 1}
        tied += len(pieces)
        unorderable += [piece.replace(SPACE, " ") for piece in pieces if piece in circular]
    return Ties(tied, len(unorderable), tuple(unorderable[:_MAX_EXAMPLES]))


def merge_list(tokenizer: SentencePieceBPE) -> list[Pair]:
    """Order the pairs of pieces that make a piece as sentencepiece does, as far as a list can.

    By score, pairs of one score by the graph of demands, and where that leaves a choice by id.
    """
    merges: list[tuple[float, int, int, int, Pair]] = []
    for score, pairs in _pairs_by_score(tokenizer).items():
        rank = _ranks(pairs) if len(pairs) > 1 else {pairs[0]: 0}
        merges += [(-score, rank[x, y], tokenizer.ids[x + y], len(x), (x, y)) for x, y in pairs]
    return [pair for *_, pair in sorted(merges)]


def merge_list_encoder(tokenizer: SentencePieceBPE) -> Tokenizer:
    """Make an engine that works from the merge list: exact unless some pieces are unorderable.

    Give it text that `tokenizer.processor.normalize` has made ready.
    """
    backend = Tokenizer(
        models.BPE(
            vocab=tokenizer.ids,
            merges=merge_list(tokenizer),
            unk_token=tokenizer.processor.id_to_piece(tokenizer.processor.unk_id()),
            fuse_unk=True,
            byte_fallback=True,
        )
    )
    own = [p.piece for p in tokenizer.proto.pieces if p.type == _USER_DEFINED]
    backend.add_tokens([AddedToken(piece, normalized=False) for piece in own])
    return backend


def _ranks(pairs: Sequence[Pair]) -> dict[Node, int]:
    """Order pairs of one score by what must come first; pairs of one number cannot be ordered.

    Between the pairs stand two kinds of nodes: ("left of", Y) comes after all that must precede
    the pairs that begin with Y, and (_MADE, X) after all that makes X.
    """
    edges: list[tuple[Node, Node]] = []
    for x, y in pairs:
        left_of_x, left_of_y = (_LEFT_OF, x), (_LEFT_OF, y)
        made = (_MADE, x + y)
        edges += [
            (left_of_x, (x, y)),
            ((x, y), left_of_y),
            ((x, y), made),
            ((_MADE, x), made),
            ((_MADE, y), made),
            ((_MADE, x), left_of_y),
        ]
    return components(edges)


def components(edges: Sequence[tuple[Node, Node]]) -> dict[Node, int]:
    """Number the strongly connected components of a graph in the direction of its edges.

    Kosaraju's algorithm without recursion (Sharir 1981): nodes with one number lie on a common
    cycle, and every other edge leads from a smaller number to a larger.

    >>> components([("a", "b"), ("b", "c"), ("c", "b")])
    {'a': 0, 'b': 1, 'c': 1}
    """
    after: dict[Node, list[Node]] = defaultdict(list)
    before: dict[Node, list[Node]] = defaultdict(list)
    for x, y in edges:
        after[x].append(y)
        before[y].append(x)
    nodes = dict.fromkeys(node for edge in edges for node in edge)
    number: dict[Node, int] = {}
    count = 0
    for root in reversed(_finished(nodes, after)):
        if root in number:
            continue
        waiting = [root]
        while waiting:
            node = waiting.pop()
            if node not in number:
                number[node] = count
                waiting += before[node]
        count += 1
    return number


def _finished(nodes: Iterable[Node], after: dict[Node, list[Node]]) -> list[Node]:
    """Nodes in the order in which a depth-first search leaves them."""
    order: list[Node] = []
    seen: set[Node] = set()
    for root in nodes:
        waiting = [(root, False)]
        while waiting:
            node, leaving = waiting.pop()
            if leaving:
                order.append(node)
            elif node not in seen:
                seen.add(node)
                waiting.append((node, True))
                waiting += [(other, False) for other in reversed(after[node])]
    return order


def _pairs_by_score(tokenizer: SentencePieceBPE) -> dict[float, list[Pair]]:
    """All pairs of learned pieces that make a learned piece, by its score."""
    learned = {p.piece: p.score for p in tokenizer.proto.pieces if p.type == NORMAL}
    by_score: dict[float, list[Pair]] = defaultdict(list)
    for piece, score in learned.items():
        for at in range(1, len(piece)):
            if piece[:at] in learned and piece[at:] in learned:
                by_score[score].append((piece[:at], piece[at:]))
    return by_score
