"""The pure core: one spectrum per fold and level, from which every score is a closed-form read-out.

NumPy and SciPy only; arrays in, arrays out; no files, no torch, no printing.
Reads like section III of the paper: moments, spectrum, compression, shrinkage, distances, thresholds.
"""
