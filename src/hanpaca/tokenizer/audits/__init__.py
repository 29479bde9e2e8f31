"""What an extension changed, and what its pieces are worth."""
