"""A detector of one's own: trained on normal images, kept as one file, predicting, growing, exported and explained."""
