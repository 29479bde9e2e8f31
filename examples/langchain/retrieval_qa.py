"""Questions to documents: passages from a hanpaca index, the answer from `hanpaca serve`."""

from connection import connected, options
from langchain_core.callbacks import CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import RunnableLambda, RunnableParallel, RunnablePassthrough

import hanpaca as hp

PROMPT = ChatPromptTemplate.from_template(
    "以下是背景资料：\n\n{context}\n\n请只根据以上资料，用中文回答下面的问题；资料里没有的，就说不知道。\n问题：{question}"
)


class DocumentRetriever(BaseRetriever):
    """Passages of an index made by `hanpaca ask add`."""

    index: str
    num_sources: int = 3

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun
    ) -> list[Document]:
        settings = hp.AskSettings(num_sources=self.num_sources)
        with hp.Documents(self.index, settings=settings) as documents:
            return [
                Document(one.text, metadata={"source": one.path, one.unit: one.place})
                for one in documents.search(query)
            ]


def joined(found: list[Document]) -> str:
    """Passages as the prompt shows them."""
    return "\n\n".join(one.page_content for one in found)


def main() -> None:
    """Stream an answer, and name its sources."""
    parser = options(__doc__ or "")
    parser.add_argument("index")
    parser.add_argument("question")
    given = parser.parse_args()
    found = RunnableParallel(
        documents=DocumentRetriever(index=given.index), question=RunnablePassthrough()
    )
    shown = RunnableLambda(lambda one: {**one, "context": joined(one["documents"])})
    answered = shown | PROMPT | connected(given.url, given.api_key) | StrOutputParser()
    chain = found | RunnablePassthrough.assign(answer=answered)
    sources: list[Document] = []
    for piece in chain.stream(given.question):
        sources = piece.get("documents", sources)
        print(piece.get("answer", ""), end="", flush=True)
    print()
    for one in sources:
        place = ", ".join(
            f"{key} {value}" for key, value in one.metadata.items() if key != "source"
        )
        print(f"{one.metadata['source']}, {place}")


if __name__ == "__main__":
    main()
