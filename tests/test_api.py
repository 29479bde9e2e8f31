"""What `import hanpaca` offers: names, signatures, documentation, and how soon."""

import inspect
import json
import subprocess
import sys
from pathlib import Path

import pytest

import hanpaca as hp

FROZEN = Path(__file__).parent / "golden" / "api.json"


def signatures() -> dict[str, str]:
    """Of every public name; of a class its constructor's and its public methods'."""
    found = {}
    for name in sorted(hp.__all__):
        value = getattr(hp, name)
        if not inspect.isclass(value):
            found[name] = _signature(value)
        elif not issubclass(value, Exception):
            members = [one for one in vars(value) if not one.startswith(("_", "model_"))]
            methods = [one for one in sorted(members) if inspect.isroutine(vars(value)[one])]
            found |= {f"{name}.{one}": _signature(getattr(value, one)) for one in methods}
            fields = getattr(value, "model_fields", set(members) - set(methods))
            found[name] = ", ".join(sorted(fields))
    return found


def _signature(function: object) -> str:
    """Names and defaults; `*` before those that are keywords only."""
    found, only = [], False
    for one in inspect.signature(function).parameters.values():  # type: ignore[arg-type]
        if one.kind is one.KEYWORD_ONLY and not only:
            found.append("*")
            only = True
        stars = "**" if one.kind is one.VAR_KEYWORD else ""
        default = "" if one.default is one.empty else f"={_default(one.default)}"
        found.append(f"{stars}{one.name}{default}")
    return ", ".join(found)


def _default(value: object) -> str:
    return value.__name__ if inspect.isfunction(value) else repr(value)


def test_names_and_signatures_are_those_that_were_agreed_on() -> None:
    """To change one on purpose: PYTHONPATH=src:. python -m tests.test_api"""
    assert signatures() == json.loads(FROZEN.read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", sorted(hp.__all__))
def test_every_public_name_says_what_it_is_for(name: str) -> None:
    value = getattr(hp, name)
    assert inspect.getdoc(value)
    if inspect.isfunction(value):
        hints = inspect.signature(value)
        assert hints.return_annotation is not hints.empty
        text = inspect.getdoc(value) or ""
        assert ">>>" in text or "```python" in text, "an example is missing"


def test_a_name_that_is_none_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'merg'"):
        hp.merg  # noqa: B018
    assert set(hp.__all__) <= set(dir(hp))


def test_importing_is_quick_and_loads_no_torch() -> None:
    code = (
        "import sys, time\nstart = time.process_time()\nimport hanpaca as hp\n"
        "took = time.process_time() - start\n"
        "hp.Recipe, hp.load_recipe, hp.HanpacaError, hp.read_documents\n"
        "assert not {'torch', 'transformers', 'peft'} & set(sys.modules)\nprint(took)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 0.1


def test_a_package_of_a_verbs_name_does_not_hide_the_verb() -> None:

    assert callable(hp.merge)
    assert callable(hp.run)


if __name__ == "__main__":
    FROZEN.write_text(json.dumps(signatures(), indent=1) + "\n", encoding="utf-8")
