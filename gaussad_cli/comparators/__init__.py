"""Methods that the paper compares with, on the same data, folds and features."""
