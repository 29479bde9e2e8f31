"""Load, fingerprint, initialise rows, adapt with LoRA, merge."""
