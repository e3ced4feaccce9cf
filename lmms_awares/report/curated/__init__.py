"""Curated sets: tables, figures, and a site that shows them row by row. Needs neither torch nor lmms-eval."""
