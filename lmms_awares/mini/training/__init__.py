"""Training of the tiny checkpoint; `recipe` holds the whole of it."""
