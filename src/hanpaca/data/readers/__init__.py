"""Text out of documents as people have them: pages, chapters, paragraphs, with their places."""
