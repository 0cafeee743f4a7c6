"""Networks that are trained on images: the comparators of Tables V and VIII."""
