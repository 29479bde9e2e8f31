import time
from pathlib import Path

import pytest

from hanpaca.errors import ArtifactError
from hanpaca.inference.engine import ChatModel
from hanpaca.inference.sampling import Sampling

QUESTION = [{"role": "user", "content": "请写一句中文，解释成语“画蛇添足”。"}]


@pytest.mark.slow
def test_streamed_text_is_the_whole_answer_without_half_characters(smollm2_gguf: Path) -> None:
    """SmolLM2 needs about two tokens a Chinese character, so characters are split."""
    with ChatModel(smollm2_gguf, context_tokens=512, num_threads=1) as model:
        pieces = list(model.stream(QUESTION, Sampling(max_tokens=48)))
    with ChatModel(smollm2_gguf, context_tokens=512, num_threads=1) as model:
        answer = model.answer(QUESTION, Sampling(max_tokens=48))
    assert "".join(pieces) == answer.text
    assert "\ufffd" not in answer.text
    assert any("\u4e00" <= character <= "\u9fff" for character in answer.text)
    assert 0 < answer.num_tokens <= 48
    assert answer.seconds > 0


@pytest.mark.slow
def test_closing_a_stream_stops_the_model_and_leaves_it_usable(smollm2_gguf: Path) -> None:
    with ChatModel(smollm2_gguf, context_tokens=1024, num_threads=1) as model:
        stream = model.stream(
            [{"role": "user", "content": "Write a long story."}], Sampling(max_tokens=800)
        )
        next(stream)
        before = time.monotonic()
        stream.close()
        assert time.monotonic() - before < 20
        again = model.answer([{"role": "user", "content": "What is the capital of France?"}])
    assert "Paris" in again.text
    assert again.stopped


@pytest.mark.slow
def test_a_cut_answer_says_so_and_many_keep_their_order(smollm2_gguf: Path) -> None:
    questions = [[{"role": "user", "content": f"Repeat the number {n}."}] for n in (11, 42, 7)]
    with ChatModel(smollm2_gguf, context_tokens=256, num_parallel=2, num_threads=1) as model:
        answers = model.answer_many(questions, max_tokens=24)
        cut = model.answer(
            [{"role": "user", "content": "Tell me a story."}], Sampling(max_tokens=4)
        )
    for number, answer in zip(("11", "42", "7"), answers, strict=True):
        assert number in answer.text
    assert not cut.stopped
    assert cut.num_tokens == 4


def test_too_long_a_conversation_is_refused_clearly(smollm2_gguf: Path) -> None:
    with (
        ChatModel(smollm2_gguf, context_tokens=64, num_threads=1) as model,
        pytest.raises(ArtifactError, match=r"prompt has [\d,]+ tokens, too many for a context of"),
    ):
        model.answer([{"role": "user", "content": "word " * 2000}])


def test_a_file_that_is_no_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="cannot be read"):
        ChatModel(tmp_path / "none.gguf")
    (tmp_path / "a.gguf").write_bytes(b"nothing")
    with pytest.raises(ArtifactError, match=r"a\.gguf: not a GGUF file"):
        ChatModel(tmp_path / "a.gguf")
    (tmp_path / "b.gguf").write_bytes(b"GGUF" + bytes(60))
    with pytest.raises(ArtifactError, match=r"b\.gguf: llama\.cpp cannot load"):
        ChatModel(tmp_path / "b.gguf")
