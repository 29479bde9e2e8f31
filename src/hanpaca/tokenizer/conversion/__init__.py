"""Between tokenizer.json, tokenizer.model and the vocabulary of a GGUF file, with equal ids."""
