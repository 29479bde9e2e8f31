"""A summary in three ways: as a whole (stuff), of parts (map_reduce), part after part (refine)."""

from pathlib import Path

from connection import connected, options
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import Runnable

from hanpaca.data.passages import passages
from hanpaca.data.readers.parts import read_parts

WHOLE = ChatPromptTemplate.from_template("请为下面的文字写一段中文摘要：\n\n{text}")
REFINED = ChatPromptTemplate.from_template(
    "已有的摘要：{summary}\n\n下面还有一段文字，请在需要时用它补充已有的摘要；没有用处就照原样返回。\n\n{text}"
)


def parts_of(file: Path, characters: int) -> list[str]:
    """Parts of a document, cut at sentences."""
    found = passages(read_parts(file, note=print), characters=characters)
    return [one.text for one in found]


def stuff(parts: list[str], whole: Runnable[dict[str, str], str]) -> str:
    """All at once."""
    return whole.invoke({"text": "\n".join(parts)})


def map_reduce(parts: list[str], whole: Runnable[dict[str, str], str]) -> str:
    """Summaries of the parts, several at a time, and a summary of those."""
    summaries = whole.batch([{"text": part} for part in parts], {"max_concurrency": 4})
    return whole.invoke({"text": "\n".join(summaries)})


def refine(
    parts: list[str],
    whole: Runnable[dict[str, str], str],
    refined: Runnable[dict[str, str], str],
) -> str:
    """A summary of the first part, made better by each that follows."""
    summary = whole.invoke({"text": parts[0]})
    for part in parts[1:]:
        summary = refined.invoke({"summary": summary, "text": part})
    return summary


def main() -> None:
    """Print a summary."""
    parser = options(__doc__ or "")
    parser.add_argument("file", type=Path)
    parser.add_argument("--method", choices=["stuff", "map_reduce", "refine"], default="stuff")
    parser.add_argument("--characters", type=int, default=600, help="Of a part.")
    given = parser.parse_args()
    model = connected(given.url, given.api_key)
    whole, refined = (prompt | model | StrOutputParser() for prompt in (WHOLE, REFINED))
    parts = parts_of(given.file, given.characters)
    match given.method:
        case "stuff":
            print(stuff(parts, whole))
        case "map_reduce":
            print(map_reduce(parts, whole))
        case _:
            print(refine(parts, whole, refined))


if __name__ == "__main__":
    main()
