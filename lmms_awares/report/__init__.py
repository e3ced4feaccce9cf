"""Reading and laying out results. Needs neither torch nor lmms-eval.

`read` makes frames of result folders, `tables` and `figures` lay the frames out, `gate` decides whether a candidate got
worse, `explorer` shows runs sample by sample.
"""
