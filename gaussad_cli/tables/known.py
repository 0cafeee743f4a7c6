"""The paper's tables by number, and the formats they are written in; importing this loads nothing heavy."""

ROMAN = {1: "I", 2: "II", 3: "III", 4: "IV", 5: "V", 7: "VII", 8: "VIII"}  # Table VI describes a network
SUFFIXES = {"text": "txt", "markdown": "md", "latex": "tex", "html": "html", "csv": "csv"}  # by format
