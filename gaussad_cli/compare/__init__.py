"""Two results folders beside each other: what differs, and whether the difference is more than chance."""
