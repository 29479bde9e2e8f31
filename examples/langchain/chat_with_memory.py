"""A conversation that remembers its last turns: a line of input is a question."""

import sys

from connection import connected, options
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate, MessagesPlaceholder

PROMPT = ChatPromptTemplate.from_messages(
    [
        ("system", "你是一个乐于助人的助手，请用中文简短地回答。"),
        MessagesPlaceholder("history"),
        ("human", "{question}"),
    ]
)


def main() -> None:
    """Answer each line, with the last turns before it."""
    parser = options(__doc__ or "")
    parser.add_argument("--turns", type=int, default=4, help="That are remembered.")
    given = parser.parse_args()
    chain = PROMPT | connected(given.url, given.api_key) | StrOutputParser()
    history: list[BaseMessage] = []
    for line in sys.stdin:
        if not (question := line.strip()):
            continue
        answer = ""
        remembered = history[-2 * given.turns :] if given.turns else []
        for piece in chain.stream({"history": remembered, "question": question}):
            answer += piece
            print(piece, end="", flush=True)
        print()
        history += [HumanMessage(question), AIMessage(answer)]


if __name__ == "__main__":
    main()
