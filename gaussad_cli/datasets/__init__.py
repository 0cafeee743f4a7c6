"""Data sets: an index of images per category, the folds over it, and the demo's data."""
