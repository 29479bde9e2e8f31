"""Whether to extend a vocabulary, and by how much."""
