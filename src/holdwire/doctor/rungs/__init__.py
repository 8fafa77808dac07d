"""The rungs of the ladder: one module for each question, each a function from a ``Case`` to a ``Rung``."""
