"""From result folders to frames: one row per document, and the runs of one table side by side."""
