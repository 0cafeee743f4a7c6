"""The paper's tables: its published cells as data, measured rows pivoted beside them, rendered."""
