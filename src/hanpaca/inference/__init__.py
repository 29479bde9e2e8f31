"""Generate and chat with a GGUF model."""
