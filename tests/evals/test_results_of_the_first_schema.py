"""Results written before they were keyed by language are still read."""

import json
from pathlib import Path

import pytest

from hanpaca.errors import ArtifactError
from hanpaca.evals.results import BITS, SPEED, TOKENS, read_results, write_results

FIRST = Path(__file__).parents[2] / "benchmarks/results/quickstart.json"


def test_every_number_of_the_first_schema_is_found_again(tmp_path: Path) -> None:
    old, new = json.loads(FIRST.read_text(encoding="utf-8")), read_results(FIRST)
    assert old["schema_version"] == 1
    assert new.languages == ("zh", "en")
    for before, after in zip(old["models"], new.models, strict=True):
        for language in ("zh", "en"):
            bits = after.get(language, BITS)
            assert bits is not None
            assert (bits.value, bits.low) == (before[language]["value"], before[language]["low"])
        tokens, speed = after.get("zh", TOKENS), after.get("zh", SPEED)
        assert tokens is not None
        assert tokens.value == before["tokens_per_han_character"]
        assert speed is not None
        assert speed.value == before["characters_per_second"]
    asked = [model.heldout for model in new.models if model.heldout]
    assert [(one.passed, one.num_answers) for one in asked] == [(92, 100)]
    assert [goal.met for goal in new.goals] == [True] * 4
    assert [goal.change for goal in new.goals] == ["fall", "rise", None, None]
    write_results(new, tmp_path / "again.json")
    assert read_results(tmp_path / "again.json") == new


@pytest.mark.parametrize(
    "content", ['{"schema_version": 1}', '{"schema_version": 1, "models": [3]}']
)
def test_damage_in_a_file_of_the_first_schema_is_named(content: str, tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text(content)
    with pytest.raises(ArtifactError, match=r"results\.json"):
        read_results(tmp_path / "results.json")
