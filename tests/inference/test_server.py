"""The engine behind `serve`: what it has is what it says it has."""

import re
from pathlib import Path

import pytest

from hanpaca.checkpoints.gguf import read_header
from hanpaca.errors import ArtifactError
from hanpaca.inference.server import Serving, engine


def test_a_context_is_no_longer_than_the_model_was_made_for(scripted_gguf: Path) -> None:
    made_for = read_header(scripted_gguf).fields["llama.context_length"]
    assert isinstance(made_for, int)
    for asked, given in ((made_for + 1, made_for), (made_for, made_for), (64, 64)):
        with engine(scripted_gguf, Serving(asked, num_parallel=1, num_threads=1)) as loaded:
            assert loaded.serving.context_tokens == given


@pytest.mark.parametrize(
    ("num_parallel", "said"),
    [(1, r"cannot load this$"), (64, r"cannot load this with [\d,]+ tokens of context in all$")],
)
def test_a_file_is_not_blamed_alone_where_much_memory_was_asked_for(
    num_parallel: int, said: str, scripted_gguf: Path, tmp_path: Path
) -> None:
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(scripted_gguf.read_bytes()[:-64])
    serving = Serving(512, num_parallel=num_parallel, num_threads=1)
    with pytest.raises(ArtifactError) as error, engine(cut, serving):
        pass
    assert re.search(said, error.value.message)
    assert ("{context_tokens}" in error.value.advice) == (num_parallel > 1)
