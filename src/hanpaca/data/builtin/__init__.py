"""Free text inside Python packages: read from their files, never imported, installed on request.

A module a source: what is learned from it, what is held out whole, and what can be asked of it so
that a program can tell whether an answer is right.
"""
