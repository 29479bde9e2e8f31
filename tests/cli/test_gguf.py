"""The commands on GGUF files, as a user calls them."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFReader, quants
from typer.testing import CliRunner, Result

from hanpaca.checkpoints.fingerprint import tokenizer_fingerprint
from hanpaca.checkpoints.gguf import read_header
from hanpaca.cli import app
from hanpaca.errors import ArtifactError


def call(*arguments: object) -> Result:
    done = CliRunner().invoke(app, ["gguf", *map(str, arguments)])
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done


@pytest.fixture(scope="module")
def files(pico_untied: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    call("write", pico_untied, "-o", folder, "--types", "f16,q8_0")
    return folder


def test_writing_is_the_default(files: Path, pico_untied: Path, tmp_path: Path) -> None:
    call(pico_untied, "-o", tmp_path, "--types", "q8_0")
    name = f"{pico_untied.name}.q8_0.gguf"
    assert (tmp_path / name).read_bytes() == (files / name).read_bytes()


def test_inspect_tells_keys_tensors_and_hashes(files: Path) -> None:
    file = files / "base.q8_0.gguf"
    tree = json.loads(call("inspect", file, "--json", "--hash").stdout)
    assert tree["fields"]["general.architecture"] == "llama"
    assert tree["fields"]["tokenizer.ggml.tokens"]["entries"] > 6
    tensors = {tensor["name"]: tensor for tensor in tree["tensors"]}
    assert tensors["token_embd.weight"]["type"] == "Q8_0"
    assert len({tensor["sha256"] for tensor in tree["tensors"]}) > 10
    told = call("inspect", file).stdout
    assert "general.architecture" in told
    assert "MB" in told.splitlines()[-1]


def test_inspect_does_not_let_a_name_steer_the_terminal(files: Path, tmp_path: Path) -> None:
    data = (files / "base.q8_0.gguf").read_bytes()
    bad = tmp_path / "bad.gguf"
    bad.write_bytes(data.replace(b"token_embd.weight", b"token\x1b[2Jd.weight"))
    assert "\x1b" not in call("inspect", bad).stdout


def test_verify_accepts_its_own_model_and_refuses_another(
    files: Path, pico_untied: Path, tmp_path: Path
) -> None:
    file = files / "base.q8_0.gguf"
    assert "every value is finite" in call("verify", file).stdout
    assert "every weight is that of" in call("verify", file, "--against", pico_untied).stdout
    swapped = tmp_path / "swapped.gguf"
    shutil.copyfile(file, swapped)
    tensors = read_header(file).tensors
    gate, up = (tensors[f"blk.0.ffn_{name}.weight"] for name in ("gate", "up"))
    data = np.memmap(swapped, np.uint8, "r+")
    data[gate.begin : gate.begin + gate.num_bytes] = data[up.begin : up.begin + up.num_bytes]
    data.flush()
    with pytest.raises(ArtifactError, match=r"1 tensors are not those of .*gate_proj"):
        call("verify", swapped, "--against", pico_untied)


def test_size_of_a_model_and_of_the_reference(files: Path, pico_untied: Path) -> None:
    sizes = json.loads(call("size", pico_untied, "--json").stdout)["base"]
    for kind in ("f16", "q8_0"):
        file = files / f"base.{kind}.gguf"
        first = min(tensor.begin for tensor in read_header(file).tensors.values())
        assert sizes[kind] == file.stat().st_size - first
    assert "Chinese-Alpaca 13B" in call("size", "--reference").stdout


@pytest.mark.slow
def test_imatrix_is_collected_used_and_compared(
    files: Path, pico_untied: Path, tmp_path: Path
) -> None:
    text = tmp_path / "text.txt"
    text.write_text("The quick brown fox jumps over the lazy dog.\n" * 20, encoding="utf-8")
    matrix = tmp_path / "m.imatrix.gguf"
    done = call("imatrix", pico_untied, "--text", text, "-o", matrix, "--block-tokens", 64)
    assert "14 matrices" in done.stdout
    call(pico_untied, "-o", tmp_path, "--types", "q4_0", "--imatrix", matrix)
    with_matrix = tmp_path / "base.q4_0.gguf"
    fields = read_header(with_matrix).fields
    assert fields["quantize.imatrix.file"] == "m.imatrix.gguf"
    assert fields["quantize.imatrix.dataset"] == "text.txt"
    reference, svg = files / "base.f16.gguf", tmp_path / "plot.svg"
    compared = [files / "base.q8_0.gguf", with_matrix, "--text", text]
    done = call("compare", reference, *compared, "--svg", svg, "--json")
    near, far = json.loads(done.stdout)[1:]
    assert 0 < near["kl"] < far["kl"]
    assert svg.read_text(encoding="utf-8").startswith("<svg")
    assert "base.q8_0.gguf" in call("compare", reference, *compared).stdout


def test_a_file_says_which_tokenizer_it_has(files: Path, pico_untied: Path) -> None:
    fields = read_header(files / "base.q8_0.gguf").fields
    assert fields["hanpaca.tokenizer.fingerprint"] == tokenizer_fingerprint(pico_untied)


def test_a_file_can_be_written_in_another_type_in_full_precision(
    files: Path, tmp_path: Path
) -> None:
    call(files / "base.q8_0.gguf", "-o", tmp_path, "--types", "f32")
    (written,) = tmp_path.iterdir()
    found = {one.name: one.data for one in GGUFReader(written).tensors}
    for tensor in GGUFReader(files / "base.q8_0.gguf").tensors:
        wanted = quants.dequantize(tensor.data, tensor.tensor_type)
        np.testing.assert_array_equal(found[tensor.name].reshape(wanted.shape), wanted)
