"""Training commands: what was begun with other settings is not gone on from."""

from pathlib import Path

import pytest

from hanpaca.cli import steps
from hanpaca.errors import ArtifactError, HanpacaError
from hanpaca.recipe import PretrainSection


def settings(folder: Path, **changes: object) -> dict[str, object]:
    section = PretrainSection.model_validate({"num_tokens": 1_000, **changes})
    return steps._settings_of("pretrain", [folder], section, 0, 5)


def stop(folder: Path) -> dict[str, object]:
    (folder / "progress").write_text("half")
    raise HanpacaError("stopped")


def test_only_the_same_training_goes_on(tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    (tmp_path / "base/model.safetensors").write_bytes(b"12345678")
    output = tmp_path / "out"
    begun = settings(tmp_path / "base")
    with pytest.raises(HanpacaError, match="stopped"):
        steps._train(output, begun, stop)
    with pytest.raises(ArtifactError, match="a training with other files or settings was begun"):
        steps._train(output, settings(tmp_path / "base", learning_rate=1e-3), stop)
    (tmp_path / "base/model.safetensors").write_bytes(b"123456789")
    with pytest.raises(ArtifactError, match="a training with other files"):
        steps._train(output, settings(tmp_path / "base"), stop)

    def finish(folder: Path) -> dict[str, object]:
        assert (folder / "progress").read_text() == "half"
        return {"num_steps": 3, "loss": 1.0}

    steps._train(output, begun, finish)
    assert sorted(path.name for path in output.iterdir()) == ["progress"]
