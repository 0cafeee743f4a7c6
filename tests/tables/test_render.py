"""Every format of a table: escaped, aligned, the best bold, differences by size."""

import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from gaussad_cli.tables import words
from gaussad_cli.tables.cells import CellSource, Column, Table, TableCell, Variant
from gaussad_cli.tables.latex import as_latex, escaped
from gaussad_cli.tables.markup import as_html, as_markdown, as_page
from gaussad_cli.tables.text import as_text

SOURCE = CellSource(Variant("net_1", "w", "tf", "k"), "mahalanobis", "all")


def cell(mean, sem=None, paper=None, paper_sem=None, quantity="auroc"):
    return TableCell("7", quantity, None, "mean", SOURCE, mean, sem, ("knob",), (), paper, paper_sem)


def table(*rows, columns=("A & B", "100%_<x>"), number=3):
    titles = tuple(Column(title, SOURCE) for title in columns)
    return Table(
        number, "Of #1: a_b", titles, tuple(f"row{n}" for n in range(len(rows))), rows, ("A note: 5 % < 6 & \\.",)
    )


TWO = table(
    (cell(91.25, 0.5, 92.0, 1.0), cell(95.0)), (cell(80.0, None, 83.0, 1.0), cell(79.96)), (cell(None), cell(1.0))
)


def test_lines_of_a_text_table_are_aligned():
    lines = as_text(TWO).splitlines()[2:7]
    bars = [[n for n, character in enumerate(line) if character == "|"] for line in lines if "-----" not in line]
    assert all(positions == bars[0] for positions in bars)


@pytest.mark.parametrize(
    ("measured", "paper", "sem", "size"),
    [
        (90, 91, 1, "near"),
        (90, 92, 1, "off"),
        (90, 92.1, 1, "far"),
        (90, 91, None, "near"),
        (90, 93, None, "far"),
        (90, None, None, ""),
    ],
)
def test_a_difference_is_sized_by_the_papers_sem(measured, paper, sem, size):
    assert words.size(cell(measured, None, paper, sem)) == size


def test_the_best_are_those_that_read_the_same_as_the_highest():
    assert words.best_of(TWO.cells[0], 3) == {1}
    assert words.best_of(TWO.cells[1], 3) == {0, 1}  # 80.0 and 79.96
    assert words.best_of(TWO.cells[2], 3) == set()  # the only one
    assert words.best_of((cell(1.0, quantity="fpr"), cell(2.0, quantity="fpr")), 3) == set()


def test_no_cell_is_best_among_unlike_ones():
    row = (cell(90.0), cell(95.0))
    assert words.best_of(row, 4) == set()  # Table IV: rates that fall from column to column
    learning = replace(row[1], source=replace(SOURCE, score="classifier"))
    assert words.best_of((*row, replace(row[1], source=replace(SOURCE, score="ocsvm")), learning), 8) == {1, 2}
    assert words.best_of((row[0], learning), 8) == set()  # learns from anomalies: nothing to compete with
    fewer = replace(row[1], categories=())
    assert words.best_of((*row, replace(fewer, mean=99.0)), 3) == {1}
    assert words.best_of((row[0], replace(row[1], categories=("lid",))), 3) == set()


@pytest.mark.parametrize("name", ["*bold*", "<b>", "_x_", "[a](b)", "`c`", "a|b", "\\d"])
def test_markdown_has_names_as_they_are(name):
    text = as_markdown(replace(TWO, rows=(name, "b", "c")))
    (line,) = (line for line in text.splitlines() if "91.2" in line)
    shown = re.sub(r"\\(.)", r"\1", line.split(" | ")[0].removeprefix("| "))
    assert shown.replace("&lt;", "<").replace("&gt;", ">") == name
    assert not re.search(r"(?<!\\)[*`|<\[]", line.split(" | ")[0].removeprefix("| "))


def test_no_name_gets_to_a_terminal_or_a_page_with_what_they_obey():
    named = replace(TWO, rows=("\x1b[31mred", "two\nlines", "c"))
    for render in (as_text, as_markdown, as_html, as_latex):
        assert "\x1b" not in render(named)
        assert len(render(named).splitlines()) == len(render(TWO).splitlines())


def test_markdown_escapes_bars_and_sets_the_best_bold():
    text = as_markdown(replace(TWO, columns=(Column("a|b"), Column("c"))))
    assert "a\\|b" in text
    assert "| row0 | 91.2 ±0.5 (92.0 ±1.0, -0.8) | **95.0** |" in text


class Tags(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.open, self.seen = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_html_is_well_formed_and_escaped():
    fragment = as_html(table((cell(1.0, None, 2.0), cell(3.0)), columns=("<script>", "&")))
    tags = Tags(fragment)
    assert tags.open == []
    assert "script" not in {tag for tag, _ in tags.seen}
    assert "&lt;script&gt;" in fragment
    assert {"near", "best", "paper"} <= {attrs.get("class") for _, attrs in tags.seen}
    assert Tags(as_page([TWO, TWO])).open == []


def test_latex_escapes_what_it_must():
    assert escaped("50%_a & #1 {x} ~^\\ $") == (
        r"50\%\_a \& \#1 \{x\} \textasciitilde{}\textasciicircum{}\textbackslash{} \$"
    )
    assert escaped("螺丝 é [x] ±1 <2") == r"螺丝 é {[}x] $\pm$1 $<$2"
    text = as_latex(TWO)
    assert r"\textbf{95.0} \\" in text
    assert r"91.2 $\pm$ 0.5 (92.0 $\pm$ 1.0)" in text


def test_a_wide_table_becomes_several_that_fit_a_page():
    wide = table(
        tuple(cell(90.0 + i, 1.0, 90.0, 1.0) for i in range(9)), columns=[f"efficientnet-b{i}" for i in range(9)]
    )
    text = as_latex(wide)
    assert text.count(r"\begin{table}") == 5  # two such columns fit article's own text width
    for i in range(9):
        assert text.count(f"efficientnet-b{i}") == 1


DOCUMENT = r"""\documentclass[a4paper]{article}
\usepackage[utf8]{inputenc}
\usepackage{booktabs}
\begin{document}
%s
\end{document}
"""


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs pdflatex (apt install texlive-latex-recommended)")
def test_latex_compiles_and_nothing_runs_off_the_page(tmp_path):
    wide = table(
        tuple(cell(90.0 + i, 1.0, 90.0, 1.0) for i in range(9)), columns=[f"net, {i}, approach" for i in range(9)]
    )
    capitals = replace(wide, columns=tuple(Column(f"NPCA 0.0{i} % FPR", SOURCE) for i in range(9)))
    foreign = replace(TWO, rows=("é ß ł", "[x]", "a very long name of a category " * 4), title="*[")
    tables = "\n".join(map(as_latex, [TWO, wide, capitals, foreign]))
    (tmp_path / "t.tex").write_text(DOCUMENT % tables, "utf-8")
    done = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "t.tex"],
        cwd=tmp_path,
        capture_output=True,
        check=False,
    )
    log = done.stdout.decode(errors="replace")
    assert done.returncode == 0, log[-2000:]
    assert "Overfull" not in log
