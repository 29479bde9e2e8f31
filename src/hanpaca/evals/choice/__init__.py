"""Multiple choice: what is asked of a model, which option it picks by which rule, how sure that is.

A model of 100 million weights scores on such questions what a constant answer scores: a number
without interval, chance and best constant says nothing.
"""
