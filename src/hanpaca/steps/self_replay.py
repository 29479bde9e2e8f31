"""Replay without foreign data: what the base itself answers before it is trained."""

import random
from pathlib import Path

from hanpaca.checkpoints.gguf import read_header
from hanpaca.data.conversations import Conversation, Message
from hanpaca.data.general import general_questions
from hanpaca.data.jsonl import read_jsonl, write_jsonl
from hanpaca.errors import DataError, RecipeError
from hanpaca.files import CHECKPOINTS
from hanpaca.inference.sampling import Sampling
from hanpaca.progress import Progress, Tell
from hanpaca.settings import SftSettings
from hanpaca.steps.batch import answer_file
from hanpaca.steps.chat import TEMPLATE_KEY, Chat, Loading

ANSWERS = "self_replay.jsonl"
"""Kept beside the adapter: each question, its answer, and whether the model ended it."""
_MOST_TOKENS = 192
_CONTEXT_TOKENS = 512


def self_replay(
    model: Path, folder: Path, settings: SftSettings, *, seed: int, tell: Tell
) -> list[Conversation]:
    """Let a model answer general questions of the old language, greedily and one by one.

    Answers that are in `folder` already are kept, so that what was interrupted goes on.

    Args:
        model: What `hanpaca.steps.chat.Chat` takes; of weights, a 16-bit file is made and cached.
        folder: Gets `self_replay.jsonl`.
        settings: How many questions.
        seed: Draws them.
        tell: Told how many are answered, and how many are of use.

    Returns:
        Question and answer, where the model ended its answer by itself.

    Raises:
        RecipeError: The model has no chat template: it was never taught to answer.
        DataError: It ended no answer.
        ArtifactError: It cannot be loaded.
    """
    file = folder / ANSWERS
    if not file.exists():
        _answer(model, file, settings.self_replay_conversations, seed, tell)
    rows = list(read_jsonl(file))
    found: list[Conversation] = [
        (Message("user", row["question"]), Message("assistant", row["answer"].strip()))
        for row in rows
        if row["stopped"] and row["answer"].strip()
    ]
    if not found:
        raise DataError(
            f"{model}: of {len(rows)} answers the model ended none within {_MOST_TOKENS} tokens: "
            "they cannot be replayed",
            "leave {self_replay_conversations} out",
        )
    shares = f"{len(found)} of {len(rows)} answers of the base's own are replayed"
    tell(Progress(0, note=f"{shares}; the rest are empty or cut"))
    return found


def _answer(model: Path, file: Path, number: int, seed: int, tell: Tell) -> None:
    questions = file.parent / CHECKPOINTS / ANSWERS  # removed when the training is done
    questions.parent.mkdir(exist_ok=True)
    drawn = random.Random(seed).sample(general_questions(), number)
    write_jsonl(questions, ({"question": one} for one in drawn))
    sampling = Sampling(max_tokens=_MOST_TOKENS)
    loading = Loading(context_tokens=_CONTEXT_TOKENS, exact=True)
    with Chat(model, sampling=sampling, loading=loading, tell=tell) as chat:
        if TEMPLATE_KEY not in read_header(chat.file).fields:
            raise RecipeError(
                f"{model}: the model has no chat template, so it cannot be asked",
                "leave {self_replay_conversations} out",
            )
        answer_file(chat, questions, file, tell=tell)
