"""Extend a vocabulary and prove what did not change."""
