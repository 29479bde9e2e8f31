"""Short questions asked of a model before and after: what it forgot."""

from collections.abc import Sequence
from pathlib import Path

from hanpaca.evals.tasks.forgetting import Kept, abilities, answers_kept, right_answers
from hanpaca.inference.engine import ChatModel
from hanpaca.progress import Progress, Tell, silent
from hanpaca.steps.model_file import model_file

_MOST_TOKENS = 64
_CONTEXT_TOKENS = 512
_PARALLEL = 4


def compare_abilities(
    before: Path | str,
    after: Path | str,
    *,
    language: str = "en",
    seed: int = 0,
    tell: Tell = silent,
) -> Kept:
    """Ask two models the same short questions, and say what of the first's answers is left.

    Each is asked greedily, with at most 64 tokens an answer, in its own chat template. A model
    that is in memory, as in training, is asked with `hanpaca.evals.tasks.forgetting.right_answers`.

    >>> compare_abilities("base.gguf", "chat.gguf")  # doctest: +SKIP

    Args:
        before: A GGUF file, a run, or a folder of weights, of which a file is made and kept.
        after: The same of the trained model.
        language: Of the questions; there are English ones.
        seed: Of the interval.
        tell: Told which model is asked.

    Raises:
        ArtifactError: A model is missing or cannot be loaded.
        DataError: There are no questions in this language, or the first model answers none rightly.
        ResourceError: The cache cannot be written.
    """
    files = [model_file(Path(model), tell=tell) for model in (before, after)]
    right = []
    for model, file in zip((before, after), files, strict=True):
        tell(Progress(0, note=f"asking {Path(model).name}"))
        right.append(_right(file, language))
    return answers_kept(*right, seed=seed)


def _right(gguf: Path, language: str) -> list[bool]:
    with ChatModel(gguf, context_tokens=_CONTEXT_TOKENS, num_parallel=_PARALLEL) as model:

        def answer(questions: Sequence[str]) -> list[str]:
            asked = [[{"role": "user", "content": one}] for one in questions]
            return [one.text for one in model.answer_many(asked, max_tokens=_MOST_TOKENS)]

        return right_answers(answer, abilities(language))
