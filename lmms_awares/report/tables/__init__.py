"""The tables of `awares compare` and `awares diagnose`, and how they are printed."""
