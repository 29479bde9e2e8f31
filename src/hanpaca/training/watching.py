"""The monitor of a training as its settings ask for it, and what is said of its decisions."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hanpaca.errors import RecipeError
from hanpaca.files import CHECKPOINTS
from hanpaca.progress import Tell
from hanpaca.training.monitor import HELDOUT, REPLAY_HELDOUT, Monitor, kept_best
from hanpaca.training_settings import NextTokenSettings, TrainingSettings


def max_rise(settings: TrainingSettings) -> float:
    """Share by which the old language's bits may rise; 0 where there is no bound."""
    return settings.max_replay_rise if isinstance(settings, NextTokenSettings) else 0.0


def check_bound(
    settings: TrainingSettings, heldout: Sequence[str], replay_heldout: Sequence[str]
) -> None:
    """Check that a bound can be seen.

    Raises:
        RecipeError: It cannot, or nothing tells the best adapter.
    """
    if max_rise(settings) and settings.sharding != "none":
        raise RecipeError(
            "a model in shards is not probed, so that no bound can be seen",
            "leave {max_replay_rise} or {sharding} out",
        )
    if max_rise(settings) and not replay_heldout:
        raise RecipeError(
            "there is no held-out text of the old language to see what it comes to take",
            "give {replay_heldout}, or leave {max_replay_rise} out",
        )
    chooses = isinstance(settings, NextTokenSettings) and settings.on_replay_rise == "keep_best"
    if chooses and not heldout:
        raise RecipeError(
            "there is no held-out text of the new language to choose the best adapter by",
            "give {heldout}, or another {on_replay_rise}",
        )


def monitor_of(
    settings: TrainingSettings, folder: Path, save: Callable[[Path], None], tell: Tell
) -> Monitor | None:
    """The monitor, where a bound is set.

    Args:
        settings: Of the training.
        folder: Of the training.
        save: Writes the adapter as it is into a folder.
        tell: Called with what is decided.
    """
    if not isinstance(settings, NextTokenSettings) or not settings.max_replay_rise:
        return None
    return Monitor(
        max_rise=settings.max_replay_rise,
        reaction=settings.on_replay_rise,
        replay_fraction=settings.replay_fraction,
        batch_blocks=settings.batch_blocks,
        checkpoints=folder / CHECKPOINTS,
        save=save,
        tell=tell,
    )


def ended_note(step: int, num_steps: int, settings: TrainingSettings) -> str:
    """What is said of a training that its monitor ended."""
    return (
        f"ended after step {step} of {num_steps}: held-out text of the old language "
        f"takes over {100 * max_rise(settings):g} % more bits per character than before"
    )


def kept_metrics(folder: Path) -> dict[str, Any]:
    """Of an adapter that was kept from before the last step: what it was found to be."""
    kept = kept_best(folder / CHECKPOINTS)
    after = {f"{name}_after": kept[name] for name in (HELDOUT, REPLAY_HELDOUT) if name in kept}
    return {"kept_step": kept["step"], **after} if kept else {}
