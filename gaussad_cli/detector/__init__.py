"""A detector for one's own images: trained on normal images, kept in one file; predict, update, explain, export."""
