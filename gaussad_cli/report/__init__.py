"""One self-contained HTML file of everything that was measured."""
