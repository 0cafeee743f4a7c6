"""The pure core: every score is computed in closed form from one spectrum per fold and level.

It uses only NumPy and SciPy, maps arrays to arrays, and knows no files, no torch and no printing. It follows section
III of the paper: moments, spectrum, compression, shrinkage, distances, thresholds.
"""
