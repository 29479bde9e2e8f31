"""Whether a merged model answers as its base does with the adapters on it: transformers and peft.

Independent of the merge: peft reads the adapters, transformers the models. All but the last adapter
are folded by peft; the last one stays an adapter.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path

import torch
from peft import PeftModel
from torch import Tensor

from hanpaca.checkpoints.adapter import AdapterFiles
from hanpaca.checkpoints.meta import EMBEDDING
from hanpaca.errors import ArtifactError, ResourceError
from hanpaca.memory import free_bytes
from hanpaca.merging import MergePlan
from hanpaca.model.load import CausalLM, load_model, load_tokenizer

_TOLERANCES = {torch.float32: 1e-3, torch.float16: 0.1, torch.bfloat16: 0.25}
"""Largest difference of a logit, by the coarser of the types of weights and arithmetic, in standard
deviations of all logits. SmolLM2-135M with random adapters: 0.00003, 0.006 and 0.02 to 0.08 in
float32, 0.03 to 0.09 in float16; in bfloat16 arithmetic up to 0.6, so that is not used."""
_TEXTS = ("The capital of France is the city of", "为什么要减少污染，保护环境？")
_NUM_TOKENS = 24
_HEADROOM = 1.2


@dataclass(frozen=True)
class Parity:
    """How near the merged model comes to base and adapters."""

    largest_difference: float
    """Of a logit, over all prompts."""
    spread: float
    """Standard deviation of the logits."""
    tolerance: float
    """Of the difference, in spreads."""
    same_choice: float
    """Share of places where both find the same token likeliest."""
    effect: float
    """Largest difference that the adapters make to the base."""
    arithmetic: str
    """Type both computed in."""

    @property
    def passed(self) -> bool:
        """Whether the difference is no more than rounding explains."""
        return self.largest_difference <= self.tolerance * self.spread

    @property
    def in_words(self) -> str:
        """One line; says so where the adapters change too little for the check to mean much."""
        told = (
            f"check in {self.arithmetic}: logits differ by at most {self.largest_difference:.2g} "
            f"from base and adapters in peft (allowed {self.tolerance * self.spread:.2g}), "
            f"{100 * self.same_choice:.0f} % the same choice; the adapters change them by "
            f"{self.effect:.2g}"
        )
        vain = self.effect <= self.tolerance * self.spread
        return f"{told}, too little to tell" if vain else told


def check_feasible(plan: MergePlan) -> torch.dtype:
    """Choose the type to compute in: float32 where it fits in memory, or else float16.

    Raises:
        ArtifactError: Transformers cannot load base or result.
        ResourceError: The model does not fit in memory.
    """
    if any(weight != 1.0 for weight in plan.options.weights):
        raise ArtifactError("the check is against peft, which knows no weights: leave them out")
    if not list(plan.base.folder.glob("model*.safetensors")):
        raise ArtifactError(
            f"{plan.base.folder}: the check needs a base in safetensors",
            "make one with {merge()} without adapters",
        )
    num_elements = sum(prod(tensor.shape) for tensor in plan.tensors)
    free = free_bytes()
    for dtype in (torch.float32, torch.float16):
        if _HEADROOM * num_elements * dtype.itemsize <= free:
            return dtype
    needed = _HEADROOM * num_elements * torch.float16.itemsize
    raise ResourceError(
        f"the check loads the model whole: about {needed / 1e9:.1f} GB of memory, {free / 1e9:.1f} "
        "are free; check on a larger machine, or merge without it"
    )


def compare(plan: MergePlan, merged: Path, dtype: torch.dtype) -> Parity:
    """Compare logits on fixed prompts, one model in memory at a time.

    Args:
        plan: Of the merge.
        merged: Its result.
        dtype: From `check_feasible`.

    Raises:
        ArtifactError: Peft cannot read an adapter.
    """
    model = load_model(plan.base.folder, dtype=dtype)
    old_rows = model.model.embed_tokens.weight.shape[0]
    prompts = _prompts(old_rows, int(plan.config["vocab_size"]), merged)
    known = [prompt for prompt in prompts if int(prompt.max()) < old_rows]
    before = _logits(model, known)
    wanted = _logits(_with_adapters(model, plan.adapters), prompts)
    del model
    found = _logits(load_model(merged, dtype=dtype), prompts)
    both = list(zip(found, wanted, strict=True))
    old = [one for one, prompt in zip(wanted, prompts, strict=True) if int(prompt.max()) < old_rows]
    effects = [_apart(a[:, :old_rows], b[:, :old_rows]) for a, b in zip(before, old, strict=True)]
    same = torch.cat([a.argmax(-1) == b.argmax(-1) for a, b in both])
    kinds = {dtype, *(tensor.dtype for tensor in plan.tensors)}
    return Parity(
        largest_difference=max(_apart(a, b) for a, b in both),
        spread=float(torch.cat([one.flatten() for one in wanted]).std()),
        tolerance=max(_TOLERANCES[kind] for kind in kinds),
        same_choice=float(same.float().mean()),
        effect=max(effects),
        arithmetic=str(dtype).removeprefix("torch."),
    )


def _apart(a: Tensor, b: Tensor) -> float:
    return float((a - b).abs().max())


def _prompts(old_rows: int, rows: int, merged: Path) -> list[Tensor]:
    """Ids from all over the base's vocabulary, from the new rows, and of two texts."""
    ranges = [(0, old_rows - 1), (old_rows // 2, old_rows // 3), (max(0, rows - 64), rows - 1)]
    prompts = [
        torch.linspace(first, last, _NUM_TOKENS).round().long()[None] for first, last in ranges
    ]
    if (merged / "tokenizer.json").is_file():
        tokenizer = load_tokenizer(merged)
        texts = [tokenizer.encode(text)[:_NUM_TOKENS] for text in _TEXTS]
        prompts += [torch.tensor([ids]) for ids in texts if ids]
    return prompts


def _logits(model: torch.nn.Module, prompts: Sequence[Tensor]) -> list[Tensor]:
    """Of each prompt, (tokens, vocabulary), float32."""
    with torch.inference_mode():
        return [model(prompt).logits[0].float() for prompt in prompts]


def _with_adapters(model: CausalLM, adapters: Sequence[AdapterFiles]) -> torch.nn.Module:
    current: torch.nn.Module = model
    for number, adapter in enumerate(adapters):
        if number:
            current = current.merge_and_unload()  # type: ignore[operator]
        change = adapter.changes.get(EMBEDDING)
        rows = current.get_input_embeddings().weight.shape[0]  # type: ignore[operator]
        if change is not None:
            whole = change.replacement.shape[0] if change.replacement else 0
            wanted = max([rows, whole, *(row + 1 for row in change.row_ids)])
            if wanted > rows:
                current.resize_token_embeddings(wanted, mean_resizing=False)  # type: ignore[operator]
        current = _loaded(current, adapter)
    return current.eval()


def _loaded(model: torch.nn.Module, adapter: AdapterFiles) -> torch.nn.Module:
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        try:
            loaded: torch.nn.Module = PeftModel.from_pretrained(model, str(adapter.folder))
        except (OSError, RuntimeError, ValueError, TypeError, LookupError) as error:
            raise _unread(adapter, str(error)) from error
    for one in told:
        if "missing adapter keys" in str(one.message):
            raise _unread(adapter, str(one.message))
    return loaded


def _unread(adapter: AdapterFiles, told: str) -> ArtifactError:
    return ArtifactError(
        f"{adapter.folder}: peft cannot read this adapter, so there is nothing to compare the "
        f"merged model with: {' '.join(told.split())[:200]}"
    )
