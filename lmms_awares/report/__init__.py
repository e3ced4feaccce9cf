"""Reading and laying out results. Needs neither torch nor lmms-eval."""
