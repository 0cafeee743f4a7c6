"""Pre-trained networks: names, native sizes, normalisation, level taps, weight files, padding."""
