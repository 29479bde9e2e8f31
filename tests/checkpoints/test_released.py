import re
from pathlib import Path

import pytest

from hanpaca.checkpoints import released as catalogue
from hanpaca.errors import ArtifactError, RecipeError

# Beginning and end of hashes in the project's SHA256.md, copied from it apart from the catalogue.
PUBLISHED = {
    "chinese-llama-7b": "2a2c24d0…9d86",
    "chinese-llama-plus-7b": "8c928db8…46be",
    "chinese-llama-13b": "6a4ce789…f9fc",
    "chinese-llama-plus-13b": "784fcff9…e7e8",
    "chinese-alpaca-7b": "0d9b6ed8…36de",
    "chinese-alpaca-plus-7b": "4ee0bf80…795d",
    "chinese-alpaca-13b": "cb8dda3c…8ada",
    "chinese-alpaca-plus-13b": "a1fcdcb6…4706",
}


def matches(sha256: str, ends: str) -> bool:
    first, last = ends.split("…")
    return sha256.startswith(first) and sha256.endswith(last)


@pytest.mark.parametrize(("name", "ends"), PUBLISHED.items())
def test_adapters_have_the_hashes_the_project_published(name: str, ends: str) -> None:
    assert matches(catalogue.releases()[name].adapter_sha256, ends)


def test_bases_tokenizers_and_a_merged_model_have_the_published_hashes() -> None:
    bases = catalogue.bases()
    assert matches(bases["LLaMA-7B"].pth[0], "700df0d3…f33d")
    assert [matches(h, e) for h, e in zip(bases["LLaMA-13B"].pth, PTH_13B, strict=True)]
    merged = catalogue.releases()["chinese-alpaca-7b"]
    assert matches(merged.merged_pth[0], "fbfccc91…9b90")
    assert matches(merged.tokenizer_sha256, "2d967e85…a2f8")
    assert matches(catalogue.releases()["chinese-llama-7b"].tokenizer_sha256, "e2676d4c…70c0")


PTH_13B = ("745bf4e2…cf08", "d5ccbcc4…7085")


def test_every_hash_is_a_hash_and_none_stands_for_two_files() -> None:
    hashes = [
        h for one in catalogue.releases().values() for h in (one.adapter_sha256, *one.merged_pth)
    ]
    hashes += [h for one in catalogue.bases().values() for h in (*one.pth, *one.bin)]
    assert all(re.fullmatch("[0-9a-f]{64}", sha256) for sha256 in hashes)
    assert len(hashes) == len(set(hashes))
    assert len(catalogue.releases()) == 15


def test_shards_are_as_many_as_the_base_has() -> None:
    for release in catalogue.releases().values():
        assert len(release.merged_pth) in (0, len(release.base.pth))


def test_plus_and_pro_alpacas_come_after_llama_plus_of_their_size_and_nothing_else_does() -> None:
    for release in catalogue.releases().values():
        size = release.name.rsplit("-", 1)[-1]
        later = re.search("alpaca-(plus|pro)", release.name)
        assert release.after == (f"chinese-llama-plus-{size}" if later else None)
        assert release.chain == ((release.after, release.name) if later else (release.name,))
        assert release.vocab_size == (49_954 if "alpaca" in release.name else 49_953)
        assert (release.rank, release.alpha) == ((64, 128) if later else (8, 32))


def test_a_release_is_found_by_name_hub_id_and_in_capitals() -> None:
    wanted = catalogue.releases()["chinese-alpaca-pro-13b"]
    for name in ("Chinese-Alpaca-Pro-13B", "hfl/chinese-alpaca-pro-lora-13b"):
        assert catalogue.find_release(name) is wanted
    mirrored = catalogue.find_release("ziqingyang/chinese-llama-lora-7b")
    assert mirrored.name == "chinese-llama-7b"


def test_a_misspelled_release_is_told_with_the_nearest_one() -> None:
    with pytest.raises(RecipeError, match="did you mean chinese-alpaca-7b"):
        catalogue.find_release("chinese-alpca-7b")


def test_sizes_tell_which_releases_an_adapter_may_be() -> None:
    found = catalogue.lookalikes(hidden_size=4096, rank=64, vocab_rows=49_954)
    assert [one.name for one in found] == ["chinese-alpaca-plus-7b", "chinese-alpaca-pro-7b"]
    assert not catalogue.lookalikes(hidden_size=2048, rank=8, vocab_rows=None)
    base = catalogue.base_of_shape(5120, 40, 32_000)
    assert base is not None
    assert base.name == "LLaMA-13B"


def test_a_release_is_rebuilt_from_its_adapters_in_order(tmp_path: Path) -> None:
    release = catalogue.find_release("chinese-alpaca-plus-7b")
    assert "--base LLaMA-7B --release chinese-alpaca-plus-7b" in catalogue.merge_command(release)
    names = ["chinese-llama-plus-7b", "chinese-alpaca-plus-7b"]
    for name in names:
        with pytest.raises(ArtifactError, match=f"hanpaca models {name} --download"):
            catalogue.locate_chain(release, tmp_path)
        (tmp_path / name).mkdir()
    assert catalogue.locate_chain(release, tmp_path) == [tmp_path / name for name in names]
