"""The calibration picture: the same axes in the report and in the file."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from gaussad_cli.evaluation.calibration import METHODS, TARGETS
from gaussad_cli.report.calibration import draw_calibration, draw_rates


def rates(methods=METHODS, category="knob"):
    return pd.DataFrame(
        {"category": category, "method": method, "target": target, "fpr": min(1.0, 1.5 * target), "tpr": 1.0}
        | {"n_held_out": 9, "n_normal": 40, "drift": 0.5, "drift_p": 1.0}
        for method in methods
        for target in TARGETS
    )


def test_every_method_has_a_line_in_a_colour_that_does_not_depend_on_the_others():
    everything, some = (Figure().subplots() for _ in range(2))
    draw_rates(everything, rates())
    draw_rates(some, rates(METHODS[3:]))
    assert [line.get_label() for line in everything.lines] == ["wanted = achieved", *METHODS]
    of_all = {line.get_label(): line.get_color() for line in everything.lines}
    assert {line.get_label(): line.get_color() for line in some.lines}.items() <= of_all.items()
    assert len(set(of_all.values())) == len(METHODS) + 1
    wanted, achieved = everything.lines[1].get_data()
    assert achieved == pytest.approx(np.minimum(100, 1.5 * wanted))
    assert everything.get_ylim() == (0, 100)


@pytest.mark.parametrize("categories", [1, 2, 5])
def test_the_file_has_a_panel_per_category(tmp_path, categories):
    rows = pd.concat([rates(category=f"c{number}") for number in range(categories)])
    draw_calibration(rows, "a title", tmp_path / "figures" / "c.png")
    assert (tmp_path / "figures" / "c.png").read_bytes().startswith(b"\x89PNG")
