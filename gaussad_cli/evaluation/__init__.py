"""From cached features to tidy rows: folds x levels x scores, AUROC, FPR and TPR."""
