"""Curated sets: when to crop, where to crop, and the transcripts that say so."""
