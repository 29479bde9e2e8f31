"""Ten tasks of twenty prompts of our own, and what a program can say of the answers."""
