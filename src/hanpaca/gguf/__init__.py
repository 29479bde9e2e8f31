"""Write GGUF, quantize, read back."""
