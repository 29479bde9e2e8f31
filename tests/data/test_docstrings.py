import pytest

from hanpaca.data.docstrings import HELDOUT_PACKAGES, REPLAY_PACKAGES, docstring_prose
from hanpaca.errors import ResourceError


@pytest.mark.slow
def test_prose_is_english_without_code_and_never_twice() -> None:
    documents = docstring_prose(("networkx",))
    text = "\n\n".join(documents)
    assert len(text) > 100_000
    assert text.isascii()
    assert not any(mark in text for mark in (">>>", "::", "=="))
    paragraphs = text.split("\n\n")
    assert len(set(paragraphs)) == len(paragraphs)
    assert max(map(len, documents)) <= 2_500
    assert documents == docstring_prose(("networkx",))


@pytest.mark.slow
def test_what_is_measured_is_not_what_is_replayed() -> None:
    assert not set(REPLAY_PACKAGES) & set(HELDOUT_PACKAGES)
    replayed = set("\n\n".join(docstring_prose(("numpy",))).split("\n\n"))
    assert not replayed & set("\n\n".join(docstring_prose(HELDOUT_PACKAGES)).split("\n\n"))


def test_a_missing_package_is_named() -> None:
    with pytest.raises(ResourceError, match="no_such_package"):
        docstring_prose(("no_such_package",))
