"""Arms of the extension benchmarks: how a model with new pieces starts, learns and is asked."""

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Literal, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from transformers import PreTrainedTokenizerFast

from benchmarks.extension_levers import (
    SAMPLE_TEXTS,
    FlooredAdam,
    Shared,
    calibrated,
    hidden_states,
    language_directions,
    mixture_of_characters,
    move_output_rows,
    own_rows,
    principal_axes,
    twin_rows,
    with_glosses,
)
from hanpaca.data.jsonl import read_texts
from hanpaca.data.pack import Blocks, mix
from hanpaca.data.sources import GivenTexts
from hanpaca.evals.bits import TextScore, score_texts
from hanpaca.lora_settings import LoraSettings
from hanpaca.model.attention import use_grouped_attention
from hanpaca.model.dtype import faster_dtype
from hanpaca.model.fit import fit_input_rows, fit_output_rows, spell_out
from hanpaca.model.load import CausalLM, load_model, load_tokenizer, start_token
from hanpaca.model.lora import add_lora, add_new_rows
from hanpaca.model.loss import NextTokenLoss
from hanpaca.model.new_rows import (
    first_piece_rows,
    grow_model,
    log_rest_given_first,
    mean_hidden_state,
    mean_rows,
)
from hanpaca.model.score import negative_log_likelihoods
from hanpaca.runs.base import resolve_base
from hanpaca.runs.recipe import load_recipe, packaged_recipes
from hanpaca.tokenizer.extension.extend import extend_tokenizer, write_extension
from hanpaca.training.blocks import Cutting, text_tokens

RECIPE = packaged_recipes()["quickstart"]
WARMUP_STEPS = 4
SHORT = 40
HELDOUT_CHARACTERS, ENGLISH_CHARACTERS = 3_000, 4_000
FIT_TEXTS = 3_000


@dataclass(frozen=True)
class Arm:
    """One way to start and train."""

    num_pieces: int
    num_steps: int = SHORT
    method: Literal["mean", "first_piece"] = "first_piece"
    row_learning_rate: float = 3e-3
    learning_rate: float = 1e-3
    fit_input_steps: int = 0
    fit_output_passes: int = 0
    shared: float = 0.0
    """Share of each character's row that the words it is part of move with."""
    batch_blocks: int = 2
    output_row_learning_rate: float | None = None
    """None takes the one of all rows."""
    seed: int = 0
    """Of the order of the text and of LoRA's start."""
    schedule: Literal["constant", "linear"] = "constant"
    """After the warm-up; linear falls to a twentieth with the last step."""
    rotated: bool = False
    """Whether Adam moves output rows along the principal axes of what the base's head reads."""
    whitened: float = 0.0
    """How much shorter steps along long axes are: by their deviation to this power."""
    shared_updates: bool = False
    """Whether an input row and its output row start apart and move together."""
    glosses: Literal["none", "input", "both"] = "none"
    """Which rows start from the English glosses of their pieces."""
    twins: bool = False
    """Whether both rows of a piece start as those of an English word."""
    twin_words: Literal["glosses", "any"] = "glosses"
    """Which: translations where there are some, or any."""
    floored: bool = False
    """Whether Adam expects of each row what its share of the text promises."""
    own: float = 0.0
    """How much both rows of a piece get that only it has, of a usual row's length."""

    @property
    def name(self) -> str:
        """What differs from the plainest arm of this size."""
        plain = asdict(Arm(self.num_pieces, self.num_steps))
        changed = {k: v for k, v in asdict(self).items() if v != plain[k]}
        return ", ".join([f"N={self.num_pieces}", *(f"{k}={v}" for k, v in changed.items())])


@dataclass(frozen=True)
class Material:
    """What all arms share."""

    base: Path
    text: list[str]
    replay: list[str]
    heldout: list[str]
    english: list[str]
    cedict: Path | None = None
    """The file of CC-CEDICT, for arms that start from glosses."""


def read_material(run: Path, cedict: Path | None = None) -> Material:
    """Read what the run's 05-data stage wrote."""
    data = run / "05-data"
    return Material(
        resolve_base(load_recipe(RECIPE), print)[0],
        read_texts(data / "text.jsonl"),
        read_texts(data / "replay.jsonl"),
        _up_to(read_texts(data / "text.heldout.jsonl"), HELDOUT_CHARACTERS),
        _up_to(read_texts(data / "replay.heldout.jsonl"), ENGLISH_CHARACTERS),
        cedict,
    )


def _up_to(texts: Sequence[str], num_characters: int) -> list[str]:
    kept: list[str] = []
    while sum(map(len, kept)) < num_characters:
        kept.append(texts[len(kept)][:2_000])
    return kept


def extended(material: Material, num_pieces: int, folder: Path) -> list[list[int]]:
    """Write the tokenizer with `num_pieces` more into `folder`; the pieces' spellings."""
    if num_pieces == 0:
        load_tokenizer(material.base).save_pretrained(folder)
        return []
    extension = extend_tokenizer(material.base, material.text, num_pieces=num_pieces)
    write_extension(extension, material.base, folder)
    return [list(spelling) for spelling in extension.spellings]


def start_rows(
    model: CausalLM, material: Material, arm: Arm, folder: Path, spellings: list[list[int]]
) -> tuple[Tensor, Tensor]:
    """Input and output rows of the new pieces before training."""
    old, new = load_tokenizer(material.base), load_tokenizer(folder)
    head = model.lm_head.weight.detach().float()
    input_rows, output_rows = mean_rows(head, spellings), mean_rows(head, spellings)
    texts = material.text[:5_000]
    if arm.method == "first_piece":
        base_counts = Counter(i for ids in _encoded(old, texts) for i in ids)
        counts = Counter(i for ids in _encoded(new, texts) for i in ids)
        sample = [[start_token(old), *ids] for ids in _encoded(old, texts[:100])]
        output_rows = first_piece_rows(
            head,
            spellings,
            log_rest=log_rest_given_first(
                spellings, [counts[len(old) + n] for n in range(len(spellings))], base_counts
            ),
            mean_hidden_d=mean_hidden_state(model, sample),
            nats=2.0,
        )
    fit_texts = [
        spell_out([start_token(new), *ids], spellings, first_id=len(old))
        for ids in _encoded(new, material.text[:FIT_TEXTS])
    ]
    if arm.fit_output_passes:
        output_rows = fit_output_rows(
            model, output_rows, fit_texts[:600], num_passes=arm.fit_output_passes
        )
    if arm.fit_input_steps:
        input_rows = fit_input_rows(model, input_rows, fit_texts, num_steps=arm.fit_input_steps)
    if arm.glosses != "none" and material.cedict:
        input_rows, output_rows = with_glosses(
            (input_rows, output_rows), (old, new), head, material.cedict, both=arm.glosses == "both"
        )
    if arm.twins:
        pieces = [str(new.decode([number])) for number in range(len(old), len(new))]
        input_rows = twin_rows(
            pieces, old, head, material.cedict if arm.twin_words == "glosses" else None
        )
        raised_d, old_d = language_directions(
            model, old, texts[:SAMPLE_TEXTS], material.replay[:SAMPLE_TEXTS]
        )
        output_rows = calibrated(
            model, (old, new), spellings, input_rows - 8 * old_d, texts, direction_d=raised_d
        )
    if arm.own:
        own = arm.own * own_rows(head, len(spellings))
        input_rows, output_rows = input_rows + own, output_rows + own
    if arm.own or arm.glosses == "both":
        output_rows = calibrated(model, (old, new), spellings, output_rows, texts)
    return input_rows, output_rows


def _encoded(tokenizer: PreTrainedTokenizerFast, texts: Sequence[str]) -> list[list[int]]:
    return cast(list[list[int]], tokenizer(list(texts), add_special_tokens=False).input_ids)


def prepared(material: Material, arm: Arm, folder: Path) -> CausalLM:
    """The model ready to train; its tokenizer is written into `folder`."""
    spellings = extended(material, arm.num_pieces, folder)
    model = load_model(material.base, dtype=faster_dtype())
    axes = None
    if arm.rotated:
        texts = material.text[:SAMPLE_TEXTS]
        hidden = hidden_states(model, load_tokenizer(material.base), texts)
        axes = principal_axes(hidden, arm.whitened)
    if spellings:
        rows = start_rows(model, material, arm, folder, spellings)
        grow_model(
            model,
            folder,
            num_old=len(load_tokenizer(material.base)),
            input_rows=rows[0],
            output_rows=rows[1],
        )
        model = load_model(folder, dtype=faster_dtype())
    torch.manual_seed(arm.seed)
    add_lora(model, LoraSettings(rank=32, alpha=64))
    if spellings:
        add_new_rows(model, len(spellings))
    if arm.shared:
        first_id = len(load_tokenizer(material.base))
        mixture = mixture_of_characters(load_tokenizer(folder), first_id, arm.shared)
        for module in (model.model.embed_tokens, model.lm_head):
            parametrize.register_parametrization(module, "new_rows", Shared(mixture))
    if arm.rotated or arm.shared_updates:
        move_output_rows(model, axes, with_input=arm.shared_updates)
    if arm.floored:
        first_id = len(load_tokenizer(material.base))
        ids = _encoded(load_tokenizer(folder), material.text[:5_000])
        counts = Counter(i for one in ids for i in one if i >= first_id)
        shares_n = torch.tensor([counts[first_id + n] + 0.5 for n in range(len(spellings))])
        for name, parameter in model.named_parameters():
            if parameter.requires_grad and "new_rows" in name:
                parameter.shares_n = shares_n / shares_n.sum()  # type: ignore[attr-defined]
    use_grouped_attention(model)
    return model


def blocks_of(material: Material, folder: Path, num_blocks: int, *, seed: int = 0) -> Blocks:
    """Chinese with 15 % English, packed, in the order of training."""
    tokenizer = load_tokenizer(folder)
    texts, replay = (
        text_tokens(tokenizer, GivenTexts(texts), Cutting(256))[0].blocks()
        for texts in (material.text, material.replay)
    )
    return mix(
        [(texts, 1)],
        replay,
        num_blocks=num_blocks,
        share=0.15,
        seed=seed,
    )


def optimizer_of(model: CausalLM, arm: Arm) -> torch.optim.AdamW:
    """Adam over LoRA factors, input rows and output rows, each with its own peak rate."""
    output_rate = arm.output_row_learning_rate or arm.row_learning_rate
    rates = {"factors": arm.learning_rate, "in": arm.row_learning_rate, "out": output_rate}
    parts: dict[str, list[nn.Parameter]] = {kind: [] for kind in rates}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            kind = "factors" if "new_rows" not in name else "out" if "lm_head" in name else "in"
            parts[kind].append(parameter)
    groups = [{"params": parts[kind], "peak": rates[kind]} for kind in rates if parts[kind]]
    if arm.floored:
        return FlooredAdam(groups, lr=0.0, weight_decay=0.0, betas=(0.9, 0.99))
    return torch.optim.AdamW(groups, lr=0.0, weight_decay=0.0, betas=(0.9, 0.99), fused=True)


def learn(
    loss_of: NextTokenLoss, optimizer: torch.optim.Optimizer, blocks: Blocks, step: int, arm: Arm
) -> None:
    """One step; the rates rise over the first few."""
    share = min(1.0, (step + 1) / WARMUP_STEPS)
    if arm.schedule == "linear":
        share *= 0.05 + 0.95 * (1 - step / arm.num_steps)
    for group in optimizer.param_groups:
        group["lr"] = group["peak"] * share
    part = range(step * arm.batch_blocks, (step + 1) * arm.batch_blocks)
    columns = (blocks.input_ids, blocks.labels, blocks.position_ids)
    loss = loss_of(
        *(
            torch.from_numpy(np.stack([column[row] for row in part]).astype(np.int64))
            for column in columns
        )
    )["loss"]
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_([p for g in optimizer.param_groups for p in g["params"]], 1.0)
    optimizer.step()


def asked(model: CausalLM, tokenizer: PreTrainedTokenizerFast, texts: list[str]) -> TextScore:
    """The score of texts, each by itself."""
    model.train(False)
    score = score_texts(
        texts,
        encode=lambda text: list(tokenizer.encode(text, add_special_tokens=False)),
        negative_log_likelihoods=partial(negative_log_likelihoods, model),
        start_token=start_token(tokenizer),
        scripts=("Han",) if any(not text.isascii() for text in texts) else (),
    )
    model.train()
    return score


@torch.inference_mode()
def bits_by_kind(
    model: CausalLM, tokenizer: PreTrainedTokenizerFast, first_id: int, texts: list[str]
) -> dict[str, list[float]]:
    """What tokens cost: how many, and bits of each, of new and old, at first and once more.

    The choice between new and old tokens, of all tokens, is told apart; it is part of the others.
    """
    found: dict[str, list[float]] = defaultdict(list)
    model.train(False)
    for text in texts:
        ids = [start_token(tokenizer), *tokenizer.encode(text, add_special_tokens=False)]
        logs_tv = torch.log_softmax(model(input_ids=torch.tensor([ids])).logits[0].float(), dim=-1)
        for place, token in enumerate(ids[1:]):
            is_new = token >= first_id
            kind = (
                f"{'new' if is_new else 'old'}, {'again' if token in ids[: place + 1] else 'first'}"
            )
            found[kind].append(-logs_tv[place, token].item())
            side_v = logs_tv[place, first_id:] if is_new else logs_tv[place, :first_id]
            found["new or old"].append(-torch.logsumexp(side_v, dim=0).item())
    model.train()
    return {
        kind: [len(nats), round(sum(nats) / len(nats) / math.log(2), 3)]
        for kind, nats in sorted(found.items())
    }


def characters_in(tokenizer: PreTrainedTokenizerFast, blocks: Blocks) -> int:
    """Chinese characters in the blocks, estimated from the first 200."""
    texts = tokenizer.batch_decode([blocks.input_ids[row] for row in range(min(200, len(blocks)))])
    seen = sum(not character.isascii() for text in texts for character in text)
    return seen * len(blocks) // len(texts)
