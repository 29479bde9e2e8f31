"""Answers compared by a judge: both orders, intervals over prompts, and controls of the judge."""
