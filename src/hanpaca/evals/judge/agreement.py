"""How far two who judged the same agree, beyond what chance would make them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hanpaca.errors import DataError

Categories = Sequence[float] | NDArray[np.float64]
_DRAWS = 2_000


@dataclass(frozen=True)
class Agreement:
    """Cohen's κ of two judges."""

    kappa: float | None
    """None where both always say the same one thing: there is nothing to agree upon."""
    low: float | None
    high: float | None
    """Of its 95 % bootstrap interval over prompts."""
    num_prompts: int


def agreement(one: Mapping[str, float], other: Mapping[str, float], *, seed: int = 0) -> Agreement:
    """Compare two judges on the prompts that both judged.

    Args:
        one: By prompt: 1, ½ or 0 for the same of two models.
        other: The other's.
        seed: Of the bootstrap.

    Raises:
        DataError: They have no prompt in common.
    """
    shared = [name for name in one if name in other]
    if not shared:
        raise DataError("the two have judged no prompt in common")
    first = np.array([one[name] for name in shared])
    second = np.array([other[name] for name in shared])
    generator = np.random.default_rng(seed)
    drawn = generator.integers(len(shared), size=(_DRAWS, len(shared)))
    found = [cohens_kappa(first[row], second[row]) for row in drawn]
    known = [kappa for kappa in found if kappa is not None]
    low, high = np.quantile(known, [0.025, 0.975]) if known else (None, None)
    kappa = cohens_kappa(first, second)
    if kappa is None or low is None or high is None:
        return Agreement(kappa, None, None, len(shared))
    return Agreement(kappa, float(low), float(high), len(shared))


def cohens_kappa(one: Categories, other: Categories) -> float | None:
    """Cohen's κ (1960) of two lists of categories, without weights.

    >>> cohens_kappa([1, 1, 0, 0], [1, 0, 0, 0])
    0.5
    """
    first, second = np.asarray(one), np.asarray(other)
    seen = float(np.mean(first == second))
    kinds = np.union1d(first, second)
    by_chance = float(sum(np.mean(first == kind) * np.mean(second == kind) for kind in kinds))
    return None if by_chance == 1 else (seen - by_chance) / (1 - by_chance)
