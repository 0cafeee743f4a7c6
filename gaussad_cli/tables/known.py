"""The tables by name, and the formats they are written in; importing this loads nothing heavy."""

ROMAN = {1: "I", 2: "II", 3: "III", 4: "IV", 5: "V", 7: "VII", 8: "VIII"}  # Table VI describes a network
PLACES = 9  # stands for the table of places, which the paper does not have
NAMES = {**{number: str(number) for number in ROMAN}, PLACES: "places"}  # as on the command line and in files
NUMBERS = {name: number for number, name in NAMES.items()}
SUFFIXES = {"text": "txt", "markdown": "md", "latex": "tex", "html": "html", "csv": "csv"}  # by format
