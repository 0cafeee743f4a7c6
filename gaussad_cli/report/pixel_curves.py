"""The curves of pixels in the report: ROC, and PRO up to the limit of AUPRO."""

from __future__ import annotations

from gaussad_cli.evaluation.pixels import FPR_LIMIT, Pixels, aupro, pixel_auroc, pro_curve, roc_curve
from gaussad_cli.report.figures import FAINT, SERIES, Panel, as_svg, label, legend, new_panel

_POINTS = 150  # of a curve, along each axis: a panel is then some 20 kB


def draw_pixel_curves(pixels: Pixels, title: str, name: str) -> Panel:
    """Draw the ROC curve of pixels and PRO; the area that is AUPRO is shaded.

    Parameters
    ----------
    pixels : of all test images of a category, with both classes and no NaN
    """
    figure, axes = new_panel(3.3, 3.1)
    limit = 100 * FPR_LIMIT
    roc = f"ROC, area {100 * pixel_auroc(pixels):.1f}"
    pro = f"PRO, area to {limit:.0f} %: {100 * aupro(pixels):.1f}"
    axes.axvline(limit, color=FAINT, linestyle="--", linewidth=0.9)
    for colour, words, curve in ((SERIES[0], roc, roc_curve), (SERIES[1], pro, pro_curve)):
        fpr, share = curve(pixels, _POINTS)
        axes.plot(100 * fpr, 100 * share, color=colour, linewidth=1.5, label=words)
        if curve is pro_curve:
            axes.fill_between(100 * fpr, 100 * share, where=fpr <= FPR_LIMIT, color=colour, alpha=0.15, linewidth=0)
    label(axes, title, "false-positive rate of pixels, %", "TPR and PRO, %")
    legend(axes, "lower right")
    description = f"Curves of pixels, {title}: {roc} %; {pro} %."
    return Panel(as_svg(figure, name, description), description)
