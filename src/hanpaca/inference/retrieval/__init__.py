"""Passages of documents in one file, and those that are like a question."""
