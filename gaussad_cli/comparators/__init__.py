"""Systems the paper compares with, on the same data, folds and scores."""
