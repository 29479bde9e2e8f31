"""Text and conversations to token blocks and labels."""
