"""What is asked of a model in each language, as data: prompts, probes, and tasks with a judge."""
