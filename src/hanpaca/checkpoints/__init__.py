"""Models and adapters as they lie on disk, in any format; their headers need no torch."""
