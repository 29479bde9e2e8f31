"""Bits per character, answers, and the report."""
