"""Questions with options out of any layout, and what is said of files that are odd."""

import gzip
import json
from collections import Counter
from pathlib import Path

import pytest

from hanpaca.data.choice.prompts import WORDINGS, prompt
from hanpaca.data.choice.questions import Question, QuestionSet, read_questions
from hanpaca.data.choice.sets import KNOWN
from hanpaca.errors import DataError, RecipeError

ROW = {"question": "1 + 1?", "choices": ["2", "3", "4", "5"], "answer": 0}


def rows(path: Path, *some: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(json.dumps(one) for one in some))
    return path


def text(path: Path, content: str, encoding: str = "utf-8") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding=encoding)
    return path


def shared(folder: Path, name: str) -> QuestionSet:
    file = folder / "eval" / name
    if not file.is_file():
        pytest.skip(f"{name} is not here")
    pytest.importorskip("zstandard")
    return read_questions(file)


def group_sizes(found: QuestionSet) -> dict[str, int]:
    return dict(Counter(found.groups[one.subject] for one in found.questions))


def test_ceval_has_the_published_rows_groups_and_constants(shared_data: Path) -> None:
    found = shared(shared_data, "ceval_val.jsonl.zst")
    assert (found.name, len(found.questions)) == ("C-Eval", 1346)
    sizes = {"STEM": 430, "Social Science": 275, "Humanities": 257, "Other": 384}
    assert group_sizes(found) == sizes
    assert Counter(KNOWN["ceval"].groups.values()) == {
        **{"STEM": 20, "Social Science": 10, "Humanities": 11, "Other": 11}
    }
    assert Counter(one.answer for one in found.questions) == {0: 310, 1: 338, 2: 344, 3: 354}
    assert "1 questions stand there twice" in found.notes[0]


def test_cmmlu_and_mmlu_have_the_published_rows(shared_data: Path) -> None:
    found = shared(shared_data, "cmmlu.jsonl.zst")
    assert (found.name, len(found.questions)) == ("CMMLU", 11_582)
    assert len({one.subject for one in found.questions}) == 67
    answers = Counter(one.answer for one in found.questions)
    assert answers == {0: 2926, 1: 2883, 2: 2877, 3: 2896}
    dev = shared(shared_data, "cmmlu_dev.jsonl.zst")
    assert set(Counter(one.subject for one in dev.questions).values()) == {5}
    assert len(dev.questions) == 335
    small = shared(shared_data, "mmlu_small.jsonl.zst")
    assert (small.name, len(small.questions), small.wording) == ("MMLU", 1_995, "en")
    assert len(KNOWN["mmlu"].groups) == len({one.subject for one in small.questions}) == 57


def test_a_folder_as_ceval_is_published(tmp_path: Path) -> None:
    header = "id,question,A,B,C,D,answer"
    text(tmp_path / "val/law_val.csv", f"{header}\n0,问一,甲,NA,丙,丁,B\n", "utf-8-sig")
    text(tmp_path / "val/logic_val.csv", f'{header}\n0,"问\n二",甲,乙,丙,丁,d\n')
    text(tmp_path / "dev/law_dev.csv", f"{header},explanation\n0,例,甲,乙,丙,丁,A,因为\n")
    text(tmp_path / "test/law_test.csv", "id,question,A,B,C,D\n0,问三,甲,乙,丙,丁\n")
    found = read_questions(tmp_path)
    assert found.questions == (
        Question("law", "问一", ("甲", "NA", "丙", "丁"), 1, f"{tmp_path}/val/law_val.csv:2"),
        Question("logic", "问\n二", ("甲", "乙", "丙", "丁"), 3, f"{tmp_path}/val/logic_val.csv:2"),
    )
    assert [one.text for one in found.examples["law"]] == ["例"]
    # Both subjects are C-Eval's alone.
    assert (found.name, found.titles["law"], found.groups["law"]) == (
        "C-Eval",
        "法学",
        "Humanities",
    )


def test_folders_as_cmmlu_and_mmlu_are_published(tmp_path: Path) -> None:
    cmmlu = tmp_path / "cmmlu"
    text(cmmlu / "test/agronomy.csv", ",Question,A,B,C,D,Answer\n0,问,甲,乙,丙,丁,C\n")
    text(cmmlu / "dev/agronomy.csv", ",Question,A,B,C,D,Answer\n0,例,甲,乙,丙,丁,C\n")
    found = read_questions(cmmlu, name="cmmlu")
    assert (found.name, found.questions[0].answer, found.groups["agronomy"]) == (
        "CMMLU",
        2,
        "Other",
    )
    mmlu = tmp_path / "mmlu"
    text(mmlu / "test/anatomy_test.csv", '"What, then?",a,b,c,d,D\nAnd now?,a,b,c,d,A\n')
    text(mmlu / "val/anatomy_val.csv", "Not asked?,a,b,c,d,A\n")
    text(mmlu / "dev/anatomy_dev.csv", "Shown?,a,b,c,d,A\n")
    found = read_questions(mmlu, name="mmlu")
    assert [one.text for one in found.questions] == ["What, then?", "And now?"]
    assert found.groups["anatomy"] == "Other"
    assert len(found.examples["anatomy"]) == 1


def test_agieval_and_own_files(tmp_path: Path) -> None:
    row = {
        "passage": "文。",
        "question": "问",
        "options": ["(A)甲", "(B)乙", "(C)丙"],
        "label": "C",
    }
    found = read_questions(rows(tmp_path / "gaokao.jsonl", row))
    assert found.questions[0].text == "文。\n问"
    assert (found.questions[0].options, found.questions[0].answer) == (("甲", "乙", "丙"), 2)
    assert (found.name, found.wording, dict(found.groups)) == ("gaokao", "zh", {})
    packed = tmp_path / "own.json.gz"
    packed.write_bytes(gzip.compress(json.dumps([{**ROW, "task": "sums"}]).encode()))
    found = read_questions(packed, examples=rows(tmp_path / "shown.jsonl", ROW))
    assert (found.questions[0].subject, found.wording) == ("sums", "en")
    assert list(found.examples) == ["shown"]
    assert found.version != read_questions(packed).version
    assert read_questions(packed).version == read_questions(packed).version


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"choices": ["2", "", "4", "5"]}, "option B is empty"),
        ({"choices": ["2", None, "4", "5"]}, "option B is missing"),
        ({"choices": ["2", float("nan"), "4", "5"]}, "option B is no text"),
        ({"choices": ["2"]}, "1 options"),
        ({"choices": None}, "0 options"),
        ({"answer": 4}, "the answer 4 is none of 4 options"),
        ({"answer": -1}, "the answer -1"),
        ({"answer": "E"}, "the answer 'E' is none of 4"),
        ({"answer": True}, "the answer True"),
        ({"answer": ["A", "B"]}, "the answer \\['A', 'B'\\]"),
        ({"answer": None}, "no answer"),
        ({"question": "  "}, "question is empty"),
        ({"question": "\ud800?"}, "question holds half a surrogate pair"),
    ],
)
def test_a_row_with_a_fault_is_named(tmp_path: Path, change: dict[str, object], told: str) -> None:
    file = rows(tmp_path / "own.jsonl", ROW, {**ROW, **change})
    with pytest.raises(DataError, match=f"own.jsonl:2: {told}"):
        read_questions(file)
    found = read_questions(file, skip_bad_rows=True)
    assert len(found.questions) == 1
    assert "1 rows left out" in found.notes[0]
    assert "own.jsonl:2" in found.notes[0]


@pytest.mark.parametrize("answer", ["b", " B ", "(B)", "B.", "B、", "（B）"])
def test_a_letter_may_have_signs_around_it(tmp_path: Path, answer: str) -> None:
    found = read_questions(rows(tmp_path / "own.jsonl", {**ROW, "answer": answer}))
    assert found.questions[0].answer == 1


@pytest.mark.parametrize(("sign", "name"), [(";", "semicolons"), ("\t", "tabs")])
def test_cells_that_are_not_separated_by_commas_are_told(
    tmp_path: Path, sign: str, name: str
) -> None:
    lines = "question,A,B,C,D,answer\n问,甲,乙,丙,丁,A\n".replace(",", sign)
    with pytest.raises(DataError, match=rf"own.csv:1: cells are separated by {name}"):
        read_questions(text(tmp_path / "own.csv", lines))


def test_three_and_seven_options_are_right_in_own_files_and_faults_in_published_sets(
    tmp_path: Path,
) -> None:
    few, many = {**ROW, "choices": list("abc")}, {**ROW, "choices": list("abcdefg")}
    found = read_questions(rows(tmp_path / "own.jsonl", few, many))
    assert [len(one.options) for one in found.questions] == [3, 7]
    with pytest.raises(DataError, match=r"law.jsonl:1: 3 options, where C-Eval has 4"):
        read_questions(rows(tmp_path / "law.jsonl", few), name="ceval")
    file = text(tmp_path / "law.csv", "question,A,B,C,D,answer\n问,甲,乙,丙,A\n问,1,2,3,4,5,A\n")
    with pytest.raises(DataError, match=r"law.csv:2: 5 cells, where the first row has 6"):
        read_questions(file)
    file = text(tmp_path / "gap.csv", "question,A,B,D,answer\n问,甲,乙,丙,A\n")
    with pytest.raises(DataError, match=r"gap.csv:2: options A, B, D are not A, B"):
        read_questions(file)


def test_files_that_are_damaged_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"own.jsonl:1: not JSON"):
        read_questions(text(tmp_path / "own.jsonl", '{"question": \n'))
    with pytest.raises(DataError, match=r"open.csv:2: not CSV"):
        read_questions(text(tmp_path / "open.csv", 'question,A,B,answer\n"never closed,1,2,A\n'))
    with pytest.raises(DataError, match="looks like gb18030"):
        read_questions(text(tmp_path / "gb.csv", "question,A,B,answer\n问题,甲,乙,A\n", "gb18030"))
    with pytest.raises(DataError, match="no such file"):
        read_questions(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no questions here"):
        read_questions(tmp_path / "empty")
    with pytest.raises(RecipeError, match="no set is called 'arc'"):
        read_questions(rows(tmp_path / "x.jsonl", ROW), name="arc")


def test_a_question_that_stands_there_twice_is_counted_and_named(tmp_path: Path) -> None:
    found = read_questions(rows(tmp_path / "own.jsonl", ROW, ROW, {**ROW, "question": "2 + 2?"}))
    assert len(found.questions) == 3
    (note,) = found.notes
    assert "own.jsonl:1" in note
    assert "own.jsonl:2" in note


def test_the_wordings_of_the_reference() -> None:
    question = Question("law", "问？", ("甲", "乙", "丙", "丁"), 1, "")
    shown = Question("law", "例？", ("一", "二", "三", "四"), 3, "")
    zh, alpaca, en = (WORDINGS[name] for name in ("zh", "alpaca", "en"))
    options = "\nA. 甲\nB. 乙\nC. 丙\nD. 丁"
    header = "以下是中国关于法学考试的单项选择题，请选出其中的正确答案。\n\n"
    example = "例？\nA. 一\nB. 二\nC. 三\nD. 四\n答案：D\n\n"
    assert prompt(question, (), zh, subject="法学", bare=False) == f"问？{options}\n答案："
    five = prompt(question, [shown], zh, subject="法学", bare=False)
    assert five == f"{header}{example}问？{options}\n答案："
    assert prompt(question, [shown], alpaca, subject="法学", bare=False) == (
        "Below is an instruction that describes a task. Write a response that appropriately "
        f"completes the request.\n\n### Instruction:\n{header}{example}问？{options}\n"
        "答案是什么？ \n\n### Response: "
    )
    assert prompt(question, [shown], zh, subject="法学", bare=True) == (
        f"{header}例？\n答案：四\n\n问？\n答案："
    )
    assert prompt(question, (), en, subject="law", bare=False) == (
        "The following are multiple choice questions (with answers) about law.\n\n"
        f"问？{options}\nAnswer:"
    )
