"""What is in text and instruction files, and which rows are not worth training on."""
