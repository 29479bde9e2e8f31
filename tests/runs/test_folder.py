import json
import os
import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from hanpaca.errors import ArtifactError, ResourceError
from hanpaca.files import Artifact, describe_file, locked
from hanpaca.manifests import read_manifest, stage_key
from hanpaca.runs import folder as runs
from hanpaca.runs.folder import run_stage, status_of, verify_run

SOURCE = Artifact("text.txt", "ab" * 32, 3)


def writes(text: str) -> Callable[[Path], Mapping[str, Any]]:
    def work(folder: Path) -> Mapping[str, Any]:
        (folder / "out.txt").write_text(text)
        return {"length": len(text)}

    return work


def make_run(run: Path) -> None:
    first, _ = run_stage(
        run / "10-a", version=1, config={"n": 1}, inputs=[SOURCE], work=writes("one")
    )
    run_stage(run / "20-b", version=1, config={}, inputs=list(first.outputs), work=writes("second"))


def refuses(folder: Path) -> Mapping[str, Any]:
    raise AssertionError("must not work")


def test_the_same_work_is_not_done_twice(tmp_path: Path) -> None:
    make_run(tmp_path)
    manifest, skipped = run_stage(
        tmp_path / "10-a", version=1, config={"n": 1}, inputs=[SOURCE], work=refuses
    )
    assert skipped
    assert manifest == read_manifest(tmp_path / "10-a")
    assert manifest.metrics == {"length": 3}


@pytest.mark.parametrize(
    "change",
    [
        {"config": {"n": 2}},
        {"version": 2},
        {"inputs": [Artifact("text.txt", "cd" * 32, 3)]},
    ],
)
def test_another_choice_or_input_is_other_work(tmp_path: Path, change: dict[str, Any]) -> None:
    make_run(tmp_path)
    settings: dict[str, Any] = {"version": 1, "config": {"n": 1}, "inputs": [SOURCE], **change}
    _, skipped = run_stage(tmp_path / "10-a", work=writes("other"), **settings)
    assert not skipped
    assert (tmp_path / "10-a/out.txt").read_text() == "other"


def test_a_missing_output_is_made_again(tmp_path: Path) -> None:
    make_run(tmp_path)
    (tmp_path / "10-a/out.txt").unlink()
    _, skipped = run_stage(
        tmp_path / "10-a", version=1, config={"n": 1}, inputs=[SOURCE], work=writes("one")
    )
    assert not skipped
    verify_run(tmp_path)


def interrupted(folder: Path) -> Mapping[str, Any]:
    (folder / "checkpoints").mkdir(exist_ok=True)
    (folder / "checkpoints/half").write_text("half")
    raise KeyboardInterrupt


def test_an_interrupted_stage_finds_its_checkpoints_again(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"version": 1, "config": {}, "inputs": []}
    with pytest.raises(KeyboardInterrupt):
        run_stage(tmp_path / "10-a", work=interrupted, **settings)
    assert not (tmp_path / "10-a").exists()
    assert [one.state for one in status_of(tmp_path, ["10-a", "20-b"])] == ["interrupted", "absent"]

    def goes_on(folder: Path) -> Mapping[str, Any]:
        assert (folder / "checkpoints/half").read_text() == "half"
        return writes("whole")(folder)

    run_stage(tmp_path / "10-a", work=goes_on, **settings)
    names = {path.name for path in (tmp_path / "10-a").iterdir()}
    assert names == {"out.txt", "manifest.json"}


def test_what_other_work_left_behind_is_cleared(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run_stage(tmp_path / "10-a", version=1, config={}, inputs=[], work=interrupted)

    def looks(folder: Path) -> Mapping[str, Any]:
        assert not (folder / "checkpoints").exists()
        return {}

    run_stage(tmp_path / "10-a", version=1, config={"n": 5}, inputs=[], work=looks)


def test_any_flipped_byte_is_found_with_its_stage(tmp_path: Path) -> None:
    make_run(tmp_path)
    assert len(verify_run(tmp_path)) == 2
    files = sorted(tmp_path.glob("*/*"))
    assert len(files) == 4
    chance = random.Random(0)
    for file in files:
        whole = file.read_bytes()
        for position in {0, len(whole) - 1, *(chance.randrange(len(whole)) for _ in range(40))}:
            damaged = bytearray(whole)
            damaged[position] ^= 1 << chance.randrange(8)
            file.write_bytes(damaged)
            with pytest.raises(ArtifactError) as error:
                verify_run(tmp_path)
            assert file.parent.name in str(error.value)
            assert error.value.exit_code == 4
        file.write_bytes(whole)
    verify_run(tmp_path)


def test_an_added_and_a_missing_file_are_found(tmp_path: Path) -> None:
    make_run(tmp_path)
    (tmp_path / "20-b/extra").touch()
    with pytest.raises(ArtifactError, match="20-b did not write"):
        verify_run(tmp_path)
    (tmp_path / "20-b/extra").unlink()
    (tmp_path / "20-b/out.txt").unlink()
    with pytest.raises(ArtifactError, match="missing; stage 20-b"):
        verify_run(tmp_path)


def test_a_stage_made_from_an_older_version_is_found(tmp_path: Path) -> None:
    make_run(tmp_path)
    run_stage(tmp_path / "10-a", version=1, config={"n": 9}, inputs=[SOURCE], work=writes("new"))
    with pytest.raises(ArtifactError, match="20-b was made from another version"):
        verify_run(tmp_path)


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"stage": "10-a"}', None])
def test_verify_names_a_manifest_that_is_damaged_or_missing(
    damage: str | None, tmp_path: Path
) -> None:
    run_stage(tmp_path / "10-a", version=1, config={}, inputs=[SOURCE], work=writes("one"))
    file = tmp_path / "10-a/manifest.json"
    if damage is None:
        file.unlink()
    else:
        file.write_text(damage)
    with pytest.raises(ArtifactError, match=r"10-a/manifest.json: the manifest of stage 10-a is"):
        verify_run(tmp_path)
    make_run(tmp_path / "two")
    (tmp_path / "two/20-b/manifest.json").unlink()
    with pytest.raises(ArtifactError, match=r"manifest.json: the manifest of stage 20-b is miss"):
        verify_run(tmp_path / "two")


def test_verify_names_the_damaged_manifest_of_a_merge_by_itself(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(ArtifactError, match=r"manifest.json: the manifest of stage merge is dam"):
        verify_run(tmp_path)


def test_verify_of_one_stage_asks_for_the_run(tmp_path: Path) -> None:
    make_run(tmp_path)
    (tmp_path / ".lock").touch()
    with pytest.raises(ArtifactError, match="10-a: one stage of a run; give the folder of the run"):
        verify_run(tmp_path / "10-a")


def test_a_stage_at_work_is_running_and_not_interrupted(tmp_path: Path) -> None:
    states = []

    def work(folder: Path) -> Mapping[str, Any]:
        (folder / "progress.json").write_text('{"step": 3')  # cut short
        states.append(status_of(tmp_path, ["10-a"])[0])
        (folder / "progress.json").write_text('{"step": 3}')
        states.append(status_of(tmp_path, ["10-a"])[0])
        return {}

    for number in range(2):
        run_stage(tmp_path / "10-a", version=1, config={"n": number}, inputs=[], work=work)
    assert [one.state for one in states] == ["running"] * 4
    assert [one.progress for one in states[:2]] == [None, {"step": 3}]
    assert status_of(tmp_path, ["10-a"])[0].state == "done"


def test_an_empty_folder_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="no finished stage"):
        verify_run(tmp_path)


def test_manifests_hold_no_absolute_path(tmp_path: Path) -> None:
    make_run(tmp_path)
    for file in tmp_path.glob("*/manifest.json"):
        assert str(tmp_path) not in file.read_text()
        assert json.loads(file.read_text())["environment"]["python"]


def test_the_order_of_inputs_does_not_matter() -> None:
    other = Artifact("b", "cd" * 32, 1)
    assert stage_key("a", 1, {}, [SOURCE, other]) == stage_key("a", 1, {}, [other, SOURCE])
    assert stage_key("a", 1, {}, [SOURCE]) != stage_key("b", 1, {}, [SOURCE])


def test_a_hash_is_the_files_own(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"abc")
    # FIPS 180-2, appendix B.1
    known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert describe_file(tmp_path / "f", name="f") == Artifact("f", known, 3)
    with pytest.raises(ArtifactError, match="cannot be read"):
        describe_file(tmp_path / "g", name="g")


def test_only_one_process_works_in_a_run(tmp_path: Path) -> None:
    with (
        locked(tmp_path),
        pytest.raises(ResourceError, match=str(os.getpid())),
        locked(tmp_path),
    ):
        pass
    with locked(tmp_path):
        pass


def test_a_kill_while_the_outputs_are_hashed_loses_no_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def work(folder: Path) -> dict[str, object]:
        (folder / "checkpoints").mkdir(exist_ok=True)
        found = (folder / "checkpoints/state").exists()
        (folder / "checkpoints/state").write_text("far")
        (folder / "out.txt").write_text("made")
        return {"resumed": found}

    def stopped(*arguments: object, **settings: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(runs, "describe_file", stopped)
        with pytest.raises(KeyboardInterrupt):
            runs.run_stage(tmp_path / "10-x", version=1, config={}, inputs=[], work=work)
    manifest, skipped = runs.run_stage(
        tmp_path / "10-x", version=1, config={}, inputs=[], work=work
    )
    assert not skipped
    assert manifest.metrics == {"resumed": True}
    assert [one.path for one in manifest.outputs] == ["10-x/out.txt"]
    assert sorted(path.name for path in (tmp_path / "10-x").iterdir()) == [
        "manifest.json",
        "out.txt",
    ]
