"""Levers of the extension benchmarks: other ways to start new rows and to move them."""

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from transformers import PreTrainedTokenizerFast

from hanpaca.model.fit import spell_out
from hanpaca.model.load import CausalLM, start_token
from hanpaca.model.new_rows import mean_rows, normal_rows

SAMPLE_TEXTS = 150
_NO_MEANING = re.compile(
    r"(surname|variant of|old variant|CL:|also written|abbr|see |used in|also pr)"
)
_PUNCTUATION = dict(
    zip(
        "，。：；？！（）、…·—",
        [",", ".", ":", ";", "?", "!", " (", ")", ",", "...", " -", "--"],
        strict=True,
    )
)


class Shared(nn.Module):
    """Rows as mixtures of parameters: a word's row moves with those of its characters."""

    def __init__(self, mixture_nn: Tensor) -> None:
        super().__init__()
        self.register_buffer("mixture_nn", mixture_nn)
        self.mixture_nn: Tensor

    def forward(self, parameters_nd: Tensor) -> Tensor:
        """Rows from parameters."""
        rows_nd: Tensor = self.mixture_nn @ parameters_nd
        return rows_nd

    def right_inverse(self, rows_nd: Tensor) -> Tensor:
        """Parameters from rows, for the start."""
        parameters_nd: Tensor = torch.linalg.solve(self.mixture_nn, rows_nd)
        return parameters_nd


def mixture_of_characters(
    tokenizer: PreTrainedTokenizerFast, first_id: int, share: float
) -> Tensor:
    """Identity plus, for words, `share` spread over the new pieces that are their characters."""
    texts = [tokenizer.decode([number]) for number in range(first_id, len(tokenizer))]
    place = {text: number for number, text in enumerate(texts) if len(text) == 1}
    mixture_nn = torch.eye(len(texts))
    for number, text in enumerate(texts):
        parts = [place[c] for c in text if c in place] if len(text) > 1 else []
        for part in parts:
            mixture_nn[number, part] += share / len(parts)
    return mixture_nn


class Moved(nn.Module):
    """Rows as their start plus parameters times a matrix: Adam's steps are along its rows."""

    def __init__(self, start_nd: Tensor, axes_dd: Tensor | None) -> None:
        super().__init__()
        self.register_buffer("start_nd", start_nd)
        self.register_buffer("axes_dd", axes_dd)
        self.start_nd: Tensor
        self.axes_dd: Tensor | None

    def forward(self, moved_nd: Tensor) -> Tensor:
        """Rows from parameters."""
        return self.start_nd + (moved_nd if self.axes_dd is None else moved_nd @ self.axes_dd)

    def right_inverse(self, rows_nd: Tensor) -> Tensor:
        """Nothing has moved at the start."""
        return torch.zeros_like(rows_nd)


def move_output_rows(model: CausalLM, axes_dd: Tensor | None, *, with_input: bool) -> None:
    """Give output rows axes of their own, and with the input rows the same parameters."""
    embedding, head = model.model.embed_tokens, model.lm_head
    for module, axes in ((embedding, axes_dd if with_input else None), (head, axes_dd)):
        rows = module.new_rows.detach().clone()
        parametrize.register_parametrization(module, "new_rows", Moved(rows, axes))
    if with_input:
        moved = embedding.parametrizations.new_rows.original
        head.parametrizations.new_rows.original = moved


class FlooredAdam(torch.optim.AdamW):
    """Adam whose second moment of a row is at least what its share of the text leads to expect.

    A row that was not seen yet has tiny gradients of one sign; Adam makes full steps of them.
    """

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One step; what has an attribute `shares_n` has rows."""
        for group in self.param_groups:
            beta1, beta2 = group["betas"]
            for parameter in group["params"]:
                state = self.state[parameter]
                if not state:
                    state["step"] = torch.zeros(())
                    state["exp_avg"] = torch.zeros_like(parameter)
                    state["exp_avg_sq"] = torch.zeros_like(parameter)
                gradient = parameter.grad
                state["step"] += 1
                state["exp_avg"].lerp_(gradient, 1 - beta1)
                state["exp_avg_sq"].lerp_(gradient.square(), 1 - beta2)
                count = float(state["step"])
                mean = state["exp_avg"] / (1 - beta1**count)
                square = state["exp_avg_sq"] / (1 - beta2**count)
                shares_n = getattr(parameter, "shares_n", None)
                if shares_n is not None:
                    # per axis: energy of the axis over all rows, given to rows by their shares
                    floor = square.sum(dim=0, keepdim=True) * shares_n[:, None]
                    square = torch.maximum(square, floor)
                parameter.addcdiv_(mean, square.sqrt() + 1e-8, value=-group["lr"])


def principal_axes(hidden_td: Tensor, whitened: float) -> Tensor:
    """Eigenvectors of the hidden states' second moment as rows, longest first: (hidden, hidden).

    Args:
        hidden_td: (tokens, hidden).
        whitened: Each is as long as its deviation to this power, the median's taken as 1, inverted.
    """
    values_d, vectors_dd = torch.linalg.eigh((hidden_td.t() @ hidden_td / len(hidden_td)).double())
    values_d, vectors_dd = values_d.float().flip(0), vectors_dd.float().flip(1)
    lengths_d = (values_d.clamp(min=1e-6) / values_d.median()).pow(-whitened / 2)
    axes_dd: Tensor = (vectors_dd * lengths_d).t().contiguous()
    return axes_dd


@torch.inference_mode()
def hidden_states(
    model: CausalLM, tokenizer: PreTrainedTokenizerFast, texts: Sequence[str]
) -> Tensor:
    """What the base's head reads over texts, one after the other: (tokens, hidden)."""
    return torch.cat(
        [
            model.model(
                input_ids=torch.tensor(
                    [[start_token(tokenizer), *tokenizer.encode(text, add_special_tokens=False)]]
                ),
                use_cache=False,
            )[0][0]
            for text in texts
        ]
    ).float()


def gloss_rows(
    pieces: Sequence[str], tokenizer: PreTrainedTokenizerFast, table_vd: Tensor, cedict: Path
) -> tuple[Tensor, Tensor]:
    """Mean rows of English glosses, as long as a usual row; and which pieces have one.

    Args:
        pieces: Texts of the new pieces.
        tokenizer: The base's.
        table_vd: Its rows.
        cedict: CC-CEDICT's file.

    Returns:
        (pieces, hidden), and of 0 and 1 (pieces, 1).
    """
    glosses = _read_glosses(cedict)
    rows = []
    for piece in pieces:
        found = _glosses_of(piece, glosses, 3) or [
            gloss for character in piece for gloss in _glosses_of(character, glosses, 1)
        ]
        ids = [tokenizer.encode(gloss, add_special_tokens=False) for gloss in found]
        rows.append(mean_rows(table_vd, ids).mean(dim=0) if ids else torch.zeros(table_vd.shape[1]))
    rows_nd = torch.stack(rows)
    has_n1 = (rows_nd.norm(dim=1, keepdim=True) > 0).float()
    return _usual_length(rows_nd, table_vd), has_n1


def with_glosses(
    rows: tuple[Tensor, Tensor],
    tokenizers: tuple[PreTrainedTokenizerFast, PreTrainedTokenizerFast],
    table_vd: Tensor,
    cedict: Path,
    *,
    both: bool,
) -> tuple[Tensor, Tensor]:
    """Input rows with the glosses of their pieces in them, or glosses in place of both rows.

    Args:
        rows: Input and output rows without glosses.
        tokenizers: The base's and the extended one.
        table_vd: The base's rows.
        cedict: CC-CEDICT's file.
        both: Whether output rows too are glosses; then each has something of its own beside.
    """
    old, new = tokenizers
    input_nd, output_nd = rows
    pieces = [str(new.decode([number])) for number in range(len(old), len(new))]
    glosses_nd, has_n1 = gloss_rows(pieces, old, table_vd, cedict)
    if not both:
        return input_nd + 0.7 * glosses_nd * has_n1, output_nd
    own_nd = own_rows(table_vd, len(pieces))
    both_nd = glosses_nd + 0.3 * own_nd
    input_nd = torch.where(has_n1 > 0, input_nd.mean(dim=0) + both_nd, input_nd + 0.5 * own_nd)
    return input_nd, torch.where(has_n1 > 0, both_nd, output_nd + 0.5 * own_nd)


def twin_rows(
    pieces: Sequence[str], tokenizer: PreTrainedTokenizerFast, table_vd: Tensor, cedict: Path | None
) -> Tensor:
    """For each piece the row of an English word of its own, if it can be one that translates it."""
    glosses = _read_glosses(cedict) if cedict else {}
    taken: set[int] = set()
    words = [
        number
        for text, number in tokenizer.get_vocab().items()
        if re.fullmatch(r"\u0120[a-z]{4,}", text)
    ]
    spare = iter(sorted(words)[2_000:])
    twins = []
    for piece in pieces:
        found = _glosses_of(piece, glosses, 6) + [
            gloss for character in piece for gloss in _glosses_of(character, glosses, 3)
        ]
        spelled = [tokenizer.encode(gloss, add_special_tokens=False) for gloss in found]
        wanted = [ids[0] for ids in spelled if len(ids) == 1] + [ids[-1] for ids in spelled]
        free = [number for number in wanted if number not in taken]
        twin = free[0] if free else next(number for number in spare if number not in taken)
        taken.add(twin)
        twins.append(twin)
    return table_vd[twins].clone()


def language_directions(
    model: CausalLM,
    tokenizer: PreTrainedTokenizerFast,
    new_texts: Sequence[str],
    old_texts: Sequence[str],
) -> tuple[Tensor, Tensor]:
    """What to add to an output row to raise it by one in one language and leave it in the other.

    Ridge regression on what the head reads: (hidden,) for the new language, and for the old.
    """
    new_td = hidden_states(model, tokenizer, new_texts)
    old_td = hidden_states(model, tokenizer, old_texts)
    share_new, share_old = new_td / len(new_td) ** 0.5, old_td / len(old_td) ** 0.5
    moment_dd = (share_new.t() @ share_new + share_old.t() @ share_old).double()
    moment_dd += torch.eye(len(moment_dd)) * moment_dd.diagonal().mean() * 1e-3
    means = torch.stack([new_td.mean(dim=0), old_td.mean(dim=0)], dim=1).double()
    found = torch.linalg.solve(moment_dd, means).float()
    return found[:, 0].clone(), found[:, 1].clone()


def own_rows(table_vd: Tensor, number: int) -> Tensor:
    """Drawn like the base's rows and as long as a usual one: a model can copy what it can tell."""
    return _usual_length(normal_rows(table_vd, number, seed=1), table_vd)


@torch.no_grad()
def calibrated(
    model: CausalLM,
    tokenizers: tuple[PreTrainedTokenizerFast, PreTrainedTokenizerFast],
    spellings: Sequence[Sequence[int]],
    output_nd: Tensor,
    texts: Sequence[str],
    *,
    rounds: int = 8,
    direction_d: Tensor | None = None,
) -> Tensor:
    """Shift output rows along the mean hidden state, or `direction_d`, to shares of the text."""
    old, new = tokenizers
    hidden_td = hidden_states(model, old, texts[:SAMPLE_TEXTS])
    read, place = [], 0
    for text in texts[:SAMPLE_TEXTS]:
        ids = [start_token(new), *new.encode(text, add_special_tokens=False)]
        spelled = spell_out(ids, spellings, first_id=len(old))
        read.append(hidden_td[place : place + len(spelled.base_ids)][list(spelled.ends)][:-1])
        place += len(spelled.base_ids)
    read_td = torch.cat(read)
    counts = Counter(i for text in texts for i in new.encode(text, add_special_tokens=False))
    wanted_n = torch.tensor([counts[len(old) + n] + 0.5 for n in range(len(spellings))])
    wanted_n /= sum(counts.values())
    if direction_d is None:
        mean_d = read_td.mean(dim=0)
        direction_d = mean_d / mean_d.square().sum()
    old_t = torch.logsumexp(read_td @ model.lm_head.weight[: len(old)].float().t(), dim=1)
    for _ in range(rounds):
        scores_tn = read_td @ output_nd.t()
        total_t = torch.logaddexp(old_t, torch.logsumexp(scores_tn, dim=1))
        given_n = (scores_tn - total_t[:, None]).exp().mean(dim=0)
        shift_n1 = (wanted_n / given_n).log().clamp(-3, 3)[:, None]
        output_nd = output_nd + shift_n1 * direction_d
    return output_nd


def _usual_length(rows_nd: Tensor, table_vd: Tensor) -> Tensor:
    usual = table_vd.norm(dim=1).median()
    scaled_nd: Tensor = rows_nd * (usual / rows_nd.norm(dim=1, keepdim=True).clamp(min=1e-6))
    return scaled_nd


def _read_glosses(cedict: Path) -> dict[str, list[str]]:
    found: dict[str, list[str]] = defaultdict(list)
    for line in cedict.read_text(encoding="utf-8").splitlines():
        entry = re.match(r"(\S+) (\S+) \[(.*?)\] /(.*)/", line)
        if entry is None or entry[3][:1].isupper():  # a name
            continue
        for meaning in entry[4].split("/"):
            if _NO_MEANING.match(meaning):
                continue
            plain = re.sub(r"\(.*?\)|\[.*?\]", "", meaning).strip(" ;,.")
            plain = re.sub(r"^(to be|to|a|an|the) ", "", plain)
            glosses = [one.strip() for one in plain.split(";")]
            for word in {entry[1], entry[2]}:
                found[word] += [one for one in glosses if one and one.isascii()]
    return found


def _glosses_of(piece: str, glosses: dict[str, list[str]], most: int) -> list[str]:
    if piece in _PUNCTUATION:
        return [_PUNCTUATION[piece]]
    chosen = sorted(glosses.get(piece, [])[:6], key=lambda one: len(one.split()))
    return [f" {one}" for one in chosen[:most]]
