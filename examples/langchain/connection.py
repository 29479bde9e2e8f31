"""What the examples have in common: where the server is, and the model that it serves."""

import argparse

from langchain_openai import ChatOpenAI
from openai import OpenAI


def options(description: str) -> argparse.ArgumentParser:
    """Options of an example, with the server's address among them."""
    found = argparse.ArgumentParser(description=description)
    found.add_argument("--url", default="http://127.0.0.1:8000/v1", help="Of `hanpaca serve`.")
    found.add_argument("--api-key", default="none", help="Where the server wants one.")
    return found


def connected(url: str, api_key: str) -> ChatOpenAI:
    """The first model of a server."""
    with OpenAI(base_url=url, api_key=api_key) as client:
        name = client.models.list().data[0].id
    return ChatOpenAI(base_url=url, api_key=api_key, model=name, temperature=0)
