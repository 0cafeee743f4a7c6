"""From images to cached features: decode, run the network, store."""
