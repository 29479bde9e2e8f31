"""Stopped, starved and damaged merges: nothing looks finished that is not, and nothing is left."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest
import torch
from safetensors.torch import load_file, save_file

from hanpaca.checkpoints.safetensors import INDEX
from hanpaca.errors import ArtifactError, ResourceError
from hanpaca.merging import MergeOptions, merge_adapters, plan_merge, run_merge
from tests.support.merge_oracle import EMBED, Q, factors, load_base, prefixed, tables, write_adapter

STATE = prefixed(factors() | tables(395))
SMALL = MergeOptions(max_shard_bytes=20_000)


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    return write_adapter(tmp_path / "a", STATE)


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir())}


def stop_after(num_bytes: int) -> Callable[[int, int], None]:
    def tell(done: int, total: int) -> None:
        if done > num_bytes:
            raise KeyboardInterrupt

    return tell


@pytest.mark.parametrize("form", ["hf", "pth"])
@pytest.mark.parametrize("share", [0.0, 0.4, 0.9])
def test_a_stopped_merge_goes_on_file_by_file(
    form: str, share: float, adapter: Path, pico_untied: Path, tmp_path: Path
) -> None:
    options = MergeOptions(format=form, num_files=2, max_shard_bytes=20_000)  # type: ignore[arg-type]
    plan = plan_merge(pico_untied, [adapter], options)
    run_merge(plan, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run_merge(plan, tmp_path / "out", on_bytes=stop_after(int(share * plan.num_bytes)))
    assert not (tmp_path / "out").exists()
    finished = {
        file.name: file.stat().st_mtime_ns
        for file in (tmp_path / "out.partial").iterdir()
        if file.suffix in (".safetensors", ".pth")
    }
    assert bool(finished) == (share > 0.5 or (share > 0 and form == "hf"))
    run_merge(plan, tmp_path / "out")
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")
    assert all((tmp_path / "out" / n).stat().st_mtime_ns == t for n, t in finished.items())
    assert not (tmp_path / "out.partial").exists()


def test_another_merge_does_not_go_on_with_what_is_there(
    adapter: Path, pico_untied: Path, tmp_path: Path
) -> None:
    plan = plan_merge(pico_untied, [adapter], SMALL)
    with pytest.raises(KeyboardInterrupt):
        run_merge(plan, tmp_path / "out", on_bytes=stop_after(plan.num_bytes // 2))
    os.utime(adapter / "adapter_model.safetensors", ns=(1, 1))
    again: list[int] = []
    run_merge(
        plan_merge(pico_untied, [adapter], SMALL),
        tmp_path / "out",
        on_bytes=lambda done, total: again.append(done),
    )
    assert again[0] < plan.num_bytes // 3


@pytest.mark.slow
def test_a_killed_merge_goes_on(adapter: Path, pico_untied: Path, tmp_path: Path) -> None:
    merge_adapters(pico_untied, [adapter], tmp_path / "whole", options=SMALL)
    code = (
        "import sys, time\nfrom pathlib import Path\n"
        "from hanpaca.merging import MergeOptions, merge_adapters\n"
        "calls = []\n"
        "def slow(done, total):\n"
        "    calls.append(done); print(done, flush=True); time.sleep(600 * (len(calls) == 8))\n"
        "base, adapter, out = map(Path, sys.argv[1:])\n"
        "merge_adapters(base, [adapter], out, options=MergeOptions(max_shard_bytes=20_000),"
        " on_bytes=slow)"
    )
    arguments = [str(pico_untied), str(adapter), str(tmp_path / "out")]
    with subprocess.Popen(
        [sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE, text=True
    ) as run:
        assert run.stdout is not None
        for _ in range(8):
            run.stdout.readline()
        run.send_signal(signal.SIGKILL)
    assert not (tmp_path / "out").exists()
    assert (tmp_path / "out.partial").is_dir()
    time.sleep(0.01)
    merge_adapters(pico_untied, [adapter], tmp_path / "out", options=SMALL)
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_two_merges_into_one_output_do_not_mix(
    adapter: Path, pico_untied: Path, tmp_path: Path
) -> None:
    """The lock goes with the process, so that of a dead one blocks nobody: see the killed merge."""
    plan = plan_merge(pico_untied, [adapter], SMALL)
    refused: list[str] = []

    def second(done: int, total: int) -> None:
        if not refused:
            with pytest.raises(ResourceError) as error:
                run_merge(plan, tmp_path / "out")
            refused.append(str(error.value))

    run_merge(plan, tmp_path / "out", on_bytes=second)
    assert f"another merge (process {os.getpid()}) is writing there" in refused[0]
    run_merge(plan, tmp_path / "whole")
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")
    with pytest.raises(ArtifactError, match="already exists"):
        run_merge(plan, tmp_path / "out")
    assert not (tmp_path / "out.partial").exists()


def test_an_output_that_appears_meanwhile_is_left_alone(
    adapter: Path, pico_untied: Path, tmp_path: Path
) -> None:
    def appear(folder: Path) -> None:
        (tmp_path / "out").mkdir()
        (tmp_path / "out/theirs").touch()

    plan = plan_merge(pico_untied, [adapter], SMALL)
    with pytest.raises(ResourceError, match="nothing was kept"):
        run_merge(plan, tmp_path / "out", finish=appear)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["theirs"]
    assert not (tmp_path / "out.partial").exists()


def no_space(*_: object) -> NoReturn:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("call", ["posix_fallocate", "pwrite"])
def test_a_full_disk_is_one_line_and_leaves_nothing(
    call: str, adapter: Path, pico_untied: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, call, no_space)
    with pytest.raises(ResourceError, match="No space left on device"):
        merge_adapters(pico_untied, [adapter], tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_too_little_space_is_told_before_anything_is_written(
    adapter: Path, pico_untied: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(ResourceError, match=r"0\.0 GB free, the merged model needs"):
        merge_adapters(pico_untied, [adapter], tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_file_that_shrinks_while_it_is_read_is_told(
    adapter: Path, pico_untied: Path, tmp_path: Path
) -> None:
    shutil.copytree(pico_untied, tmp_path / "base")
    plan = plan_merge(tmp_path / "base", [adapter], MergeOptions())
    os.truncate(tmp_path / "base/model.safetensors", 30_000)
    with pytest.raises(ArtifactError, match="became shorter"):
        run_merge(plan, tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "base"]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", [EMBED, f"{Q}.lora_A.weight"])
@pytest.mark.parametrize("file", ["adapter_model.bin", "adapter_model.safetensors"])
def test_a_value_that_is_no_number_stops_the_merge(
    value: float, name: str, file: str, pico_untied: Path, tmp_path: Path
) -> None:
    state = factors() | tables(395)
    state[name][2, 3] = value
    adapter = write_adapter(tmp_path / "a", prefixed(state), file=file)
    with pytest.raises(ArtifactError, match="NaN or infinite"):
        merge_adapters(pico_untied, [adapter], tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_what_is_too_large_for_float16_is_told(pico_untied: Path, tmp_path: Path) -> None:
    state = factors()
    state[f"{Q}.lora_A.weight"] *= 10_000
    state[f"{Q}.lora_B.weight"] *= 1_000
    adapter = write_adapter(tmp_path / "a", prefixed(state))
    with pytest.raises(ArtifactError, match=r"q_proj.* too much for float16"):
        merge_adapters(pico_untied, [adapter], tmp_path / "out", options=MergeOptions(dtype="f16"))
    merge_adapters(pico_untied, [adapter], tmp_path / "out")


def damage_index(folder: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    tree = json.loads((folder / INDEX).read_text())
    edit(tree["weight_map"])
    (folder / INDEX).write_text(json.dumps(tree))


@pytest.mark.parametrize("target", ["../secret.safetensors", "/etc/passwd", "sub/x.safetensors"])
def test_an_index_that_points_elsewhere_is_refused(
    target: str, pico_untied: Path, tmp_path: Path
) -> None:
    merge_adapters(pico_untied, [], tmp_path / "base", options=SMALL)
    damage_index(tmp_path / "base", lambda places: places.update({EMBED: target}))
    with pytest.raises(ArtifactError, match="outside the folder"):
        plan_merge(tmp_path / "base", [], MergeOptions())
    bins = tmp_path / "bins"
    bins.mkdir()
    shutil.copyfile(pico_untied / "config.json", bins / "config.json")
    index = json.dumps({"weight_map": {EMBED: target}})
    (bins / "pytorch_model.bin.index.json").write_text(index)
    with pytest.raises(ArtifactError, match="outside the folder"):
        plan_merge(bins, [], MergeOptions())


def test_a_truncated_shard_and_a_tensor_in_two_are_refused(
    pico_untied: Path, tmp_path: Path
) -> None:
    base = tmp_path / "base"
    merge_adapters(pico_untied, [], base, options=SMALL)
    first, *_, last = sorted(base.glob("*.safetensors"))
    whole = first.read_bytes()
    first.write_bytes(whole[:-2])
    with pytest.raises(ArtifactError, match="truncated"):
        plan_merge(base, [], MergeOptions())
    first.write_bytes(whole)
    save_file({**load_file(last), EMBED: load_base(pico_untied)[EMBED]}, last)
    with pytest.raises(ArtifactError, match=EMBED):
        plan_merge(base, [], MergeOptions())


def test_weights_of_another_type_are_refused_by_name(pico_untied: Path, tmp_path: Path) -> None:
    for name, file in (("base", "model.safetensors"), ("bin", "pytorch_model.bin")):
        folder = tmp_path / name
        folder.mkdir()
        shutil.copyfile(pico_untied / "config.json", folder / "config.json")
        state = {EMBED: torch.zeros(3, 4, dtype=torch.int8)}
        if name == "base":
            save_file(state, folder / file)
        else:
            torch.save(state, folder / file)
        with pytest.raises(ArtifactError, match=r"I8|int8"):
            plan_merge(folder, [], MergeOptions())


def test_a_base_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="no such folder"):
        plan_merge(tmp_path / "none", [], MergeOptions())
    with pytest.raises(ArtifactError, match="no weights here"):
        plan_merge(tmp_path, [], MergeOptions())
