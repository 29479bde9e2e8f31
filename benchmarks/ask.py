"""Finding passages: how often the right one is among five, and how fast at 100,000.

The questions are those of CMRC 2018's development set (848 paragraphs of Chinese Wikipedia, 3,219
questions by people; https://github.com/ymcui/cmrc2018, CC BY-SA 4.0), given as a file or fetched;
without it that part is left out. The speed is measured on real text with CMRC's questions, and on
paragraphs of made-up words (Zipf's law) with questions of any words side by side, which are mostly
common ones, the slowest there are:

    python benchmarks/ask.py --cmrc cmrc2018_dev.json --text zh.jsonl
"""

import argparse
import itertools
import json
import platform
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hanpaca.data.documents import read_documents
from hanpaca.data.passages import CHARACTERS
from hanpaca.inference.retrieval.settings import AskSettings, IndexSettings
from hanpaca.steps.ask import Documents
from hanpaca.steps.ask_add import ask_add

RESULT = Path(__file__).parent / "results" / "ask.json"
CMRC = "https://raw.githubusercontent.com/ymcui/cmrc2018/master/squad-style-data/cmrc2018_dev.json"
WORDS, PER_PARAGRAPH, PER_QUESTION = 60_000, 230, 8
ANY = AskSettings(least_share=0)
LARGE = IndexSettings(max_megabytes=10_000)
SHARES = (0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.5)
FILES = 10_000
PARTS = ("cmrc_2018_dev", "one_more_file", "speed", "speed_on_text")
READER_SECONDS = 2.5
"""A file younger than two seconds is read twice; the benchmark waits that long."""


def cmrc(file: Path | None) -> Any:  # noqa: ANN401  # JSON
    """Articles, from a file or the network; None without either."""
    if file is not None:
        return json.loads(file.read_text(encoding="utf-8"))["data"]
    try:
        with urllib.request.urlopen(CMRC, timeout=30) as answer:
            return json.load(answer)["data"]
    except (urllib.error.URLError, TimeoutError) as error:
        print(f"CMRC is left out: {error}", flush=True)
        return None


def write_rows(path: Path, texts: Sequence[str]) -> None:
    """One row a text."""
    rows = (json.dumps({"text": one}, ensure_ascii=False) + "\n" for one in texts)
    path.write_text("".join(rows), encoding="utf-8")


def found(articles: Any, folder: Path) -> dict[str, Any]:  # noqa: ANN401
    """How often one of the first passages is of the paragraph that was asked about."""
    paragraphs = [paragraph for article in articles for paragraph in article["paragraphs"]]
    write_rows(folder / "cmrc.jsonl", [one["context"] for one in paragraphs])
    write_rows(folder / "half.jsonl", [one["context"] for one in paragraphs[::2]])
    ask_add([folder / "cmrc.jsonl"], folder / "cmrc.sqlite")
    ask_add([folder / "half.jsonl"], folder / "half.sqlite")
    documents = Documents(folder / "cmrc.sqlite", settings=ANY)
    half = Documents(folder / "half.sqlite", settings=ANY)
    first = five = holding = total = 0
    known: list[float] = []
    unknown: list[float] = []
    for number, paragraph in enumerate(paragraphs, start=1):
        for asked in paragraph["qas"]:
            sources = documents.search(asked["question"])
            places = [one.place for one in sources]
            first += places[:1] == [number]
            five += number in places
            answers = [one["text"] for one in asked["answers"]]
            holding += any(answer in one.text for answer in answers for one in sources)
            total += 1
            without = half.search(asked["question"])
            share = max((one.share for one in without), default=0.0)
            (known if number % 2 else unknown).append(share)
    return {
        "paragraphs": len(paragraphs),
        "questions": total,
        "hit_at_1": round(first / total, 4),
        "hit_at_5": round(five / total, 4),
        "answer_in_five_passages": round(holding / total, 4),
        "refused_by_least_share": {
            str(least): {
                "paragraph_is_there": round(float(np.mean(np.array(known) < least)), 4),
                "paragraph_is_not": round(float(np.mean(np.array(unknown) < least)), 4),
            }
            for least in SHARES
        },
    }


def paragraphs_of(number: int, seed: int = 0) -> Iterator[list[str]]:
    """The words of each paragraph."""
    random = np.random.default_rng(seed)
    lengths = random.choice([1, 2, 3], WORDS, p=[0.2, 0.65, 0.15])
    common = (0x4E00 + np.minimum(random.zipf(1.15, int(lengths.sum())), 0x51FF)).astype("<u4")
    text, places = common.tobytes().decode("utf-32-le"), np.cumsum([0, *lengths])
    words = [text[start:end] for start, end in itertools.pairwise(places)]
    likely = 1 / np.arange(1, WORDS + 1)
    steps = np.cumsum(likely / likely.sum())
    for _ in range(number):
        drawn = np.searchsorted(steps, random.random(PER_PARAGRAPH))
        yield [words[min(one, WORDS - 1)] for one in drawn]


def made_up(number: int) -> tuple[list[str], list[str]]:
    """Paragraphs, and 200 questions of words that stand side by side in one."""
    random = np.random.default_rng(1)
    texts: list[str] = []
    questions: list[str] = []
    for one, words in enumerate(paragraphs_of(number)):
        lines = ["".join(words[start : start + 12]) for start in range(0, PER_PARAGRAPH, 12)]
        texts.append("。".join(lines))
        if one % (number // 200) == 0:
            start = int(random.integers(PER_PARAGRAPH - PER_QUESTION))
            questions.append("".join(words[start : start + PER_QUESTION]))
    return texts, questions


def real(number: int, paths: Sequence[Path], articles: Any) -> tuple[list[str], list[str]]:  # noqa: ANN401
    """Texts cut to 500 characters, and questions that people asked about others."""
    texts: list[str] = []
    for document in read_documents(paths):
        places = range(0, len(document.text), CHARACTERS)
        texts += [document.text[start : start + CHARACTERS] for start in places]
        if len(texts) >= number:
            break
    asked = [
        one["question"]
        for article in articles
        for paragraph in article["paragraphs"]
        for one in paragraph["qas"]
    ]
    return texts[:number], asked[:: len(asked) // 200]


def speed(texts: Sequence[str], questions: Sequence[str], folder: Path) -> dict[str, Any]:
    """Reading, and finding."""
    write_rows(folder / "many.jsonl", texts)
    num_bytes = sum(len(one.encode()) for one in texts)
    begun, begun_cpu = time.perf_counter(), time.process_time()
    report = ask_add([folder / "many.jsonl"], folder / "many.sqlite", settings=LARGE)
    seconds, cpu = time.perf_counter() - begun, time.process_time() - begun_cpu
    documents = Documents(folder / "many.sqlite", settings=ANY)
    documents.search(questions[0])
    walls, cpus = [], []
    for question in questions:
        begun, begun_cpu = time.perf_counter(), time.process_time()
        documents.search(question)
        walls.append(time.perf_counter() - begun)
        cpus.append(time.process_time() - begun_cpu)
    return {
        "passages": report.num_passages,
        "megabytes": round(num_bytes / 1e6, 1),
        "index_megabytes": round((folder / "many.sqlite").stat().st_size / 1e6, 1),
        "megabytes_per_second": round(num_bytes / 1e6 / seconds, 2),
        "megabytes_per_cpu_second": round(num_bytes / 1e6 / cpu, 2),
        "question_ms_median": round(1e3 * float(np.median(walls)), 1),
        "question_ms_p95": round(1e3 * float(np.quantile(walls, 0.95)), 1),
        "question_cpu_ms_median": round(1e3 * float(np.median(cpus)), 1),
        "question_cpu_ms_p95": round(1e3 * float(np.quantile(cpus, 0.95)), 1),
    }


def one_more(folder: Path) -> dict[str, Any]:
    """Files opened, and seconds, when one is added to many."""
    many = folder / "many"
    many.mkdir()
    for number in range(FILES):
        (many / f"{number}.txt").write_text(f"第{number}章。", encoding="utf-8")
    time.sleep(READER_SECONDS)
    ask_add([many], folder / "files.sqlite")
    (many / "new.txt").write_text("新的一章。", encoding="utf-8")
    opened: set[str] = set()

    def hook(event: str, given: tuple[Any, ...]) -> None:
        if event == "open" and str(given[0]).startswith(str(many)):
            opened.add(str(given[0]))

    sys.addaudithook(hook)
    begun = time.perf_counter()
    report = ask_add([many], folder / "files.sqlite")
    seconds = time.perf_counter() - begun
    return {
        "files": FILES,
        "read": report.num_read,
        "opened": len(opened),
        "seconds": round(seconds, 2),
    }


def main() -> None:
    """Measure, and keep the numbers beside those of other parts."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--cmrc", type=Path, help="The development set as SQuAD's JSON.")
    options.add_argument("--text", type=Path, nargs="+", help="Real text for the speed.")
    options.add_argument("--passages", type=int, default=100_000)
    options.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    given = options.parse_args()
    numbers: dict[str, Any] = json.loads(RESULT.read_text("utf-8")) if RESULT.is_file() else {}
    numbers["machine"] = {"python": platform.python_version(), "processor": platform.machine()}
    for part in given.parts:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            match part:
                case "cmrc_2018_dev":
                    articles = cmrc(given.cmrc)
                    measured = found(articles, folder) if articles else None
                case "one_more_file":
                    measured = one_more(folder)
                case "speed_on_text":
                    articles = cmrc(given.cmrc) if given.text else None
                    measured = (
                        speed(*real(given.passages, given.text, articles), folder)
                        if articles
                        else None
                    )
                case _:
                    measured = speed(*made_up(given.passages), folder)
        if measured:
            numbers[part] = measured
            print(part, json.dumps(measured, indent=1), flush=True)
            RESULT.write_text(json.dumps(numbers, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
