"""The report, from features made up here: one file, no script, nothing fetched, everything in it."""

import re
import shutil
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from gaussad_cli.evaluation import manifests
from gaussad_cli.evaluation.manifests import Origin, Record
from gaussad_cli.extraction.store import ImageEntry, Manifest, Recipe, split_folder, write_features
from gaussad_cli.report.content import find_networks, thumbnail
from tests.conftest import assert_user_error, write_image

EVIL = "<script>alert(1)</script>"


class Page(HTMLParser):
    """Collects tags and their attributes."""

    def __init__(self, text):
        super().__init__()
        self.tags = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def values(self, attribute):
        return [attrs[attribute] for _, attrs in self.tags if attribute in attrs]


def write_category(category, classes, network="my-net"):
    recipe = Recipe(network, n_levels=2, weights="mine", weights_sha256="", padding="native", input_size=224)
    rng = np.random.default_rng(len(category))
    for split, labels in (("train", ["good"] * 20), ("test", classes)):
        images = tuple(ImageEntry(f"{split}/{label}/{i}.png", label, "") for i, label in enumerate(labels))
        shift = np.array([0.0 if label == "good" else 1.5 for label in labels])[:, None]
        features = {level: (rng.normal(size=(len(labels), 4 * level)) + shift).astype(np.float32) for level in (1, 2)}
        folder = split_folder(Path("cache"), "made-up", recipe, category, split)
        write_features(folder, Manifest("made-up", category, split, recipe, images, {}), features)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Where the results are kept, once they are made."""
    return tmp_path_factory.mktemp("made") / "results"


@pytest.fixture
def evaluated(gaussad, made):
    if not made.exists():
        for category in ("knob", "lid"):
            write_category(category, ["good"] * 8 + [EVIL.replace("/", "")] * 4 + ["dent"] * 4)
        some = ("--mode", "all", "--threshold", "all", "--levels", "2")
        assert gaussad("evaluate", "--backbone", "my-net", "--sweep").code == 0
        assert gaussad("evaluate", "--backbone", "my-net", *some).code == 0
        shutil.copytree("results", made)
    shutil.copytree(made, "results", dirs_exist_ok=True)
    return gaussad


@pytest.fixture
def report(evaluated, made):
    """The text of the report, made once."""
    kept = made / "made-up/report.html"
    if not kept.exists():
        done = evaluated("report")
        assert done.code == 0, done.err
        assert Path(done.out.strip()) == Path("results/made-up/report.html")
        shutil.copy(done.out.strip(), kept)
    return kept.read_text("utf-8")


def test_the_report_is_one_page_without_scripts_or_anything_to_fetch(report):
    page = Page(report)
    assert not {"script", "link", "iframe", "object", "embed"} & {tag for tag, _ in page.tags}
    fetched = [
        *page.values("src"),
        *page.values("href"),
        *page.values("xlink:href"),
        *re.findall(r"url\(([^)]*)\)", report),
    ]
    assert fetched
    assert all(value.startswith(("#", "data:")) for value in fetched)
    assert "@import" not in report
    assert EVIL.replace("/", "") not in report  # a class folder's name is text, not markup


def test_every_id_is_there_once_and_every_link_inside_the_page_leads_somewhere(report):
    page = Page(report)
    ids = Counter(page.values("id"))
    assert [name for name, n in ids.items() if n > 1] == []
    links = [value[1:] for value in [*page.values("href"), *page.values("xlink:href")] if value.startswith("#")]
    assert links
    assert set(links) <= set(ids)


def test_it_shows_every_part(report):
    for anchor in ("levels", "components", "roc", "distances", "working-point", "images", "tables", "run"):
        assert f'id="{anchor}"' in report, anchor
    assert report.count("<svg") == 1 + 2 + 2 + 2 + 3  # levels; per category: sweep, ROC, distances, rates
    assert "test/dent/" in report
    assert "Table III" in report
    assert "prefers-color-scheme: dark" in report


def test_thumbnails_are_of_the_images_of_data(evaluated):
    for category in ("knob", "lid"):
        for i in range(16):
            label = "good" if i < 8 else "dent"
            write_image(Path("images") / category / "test" / label / f"{i}.png", seed=i)
    assert evaluated("report", "--data", "images", "--out", "page.html").code == 0
    text = Path("page.html").read_text("utf-8")
    assert text.count("data:image/jpeg;base64,") >= 8
    assert "data:image" not in Path("results/made-up").joinpath("metrics.csv").read_text()


def test_two_reports_of_the_same_results_are_the_same(evaluated, report):
    evaluated("report", "--out", "again.html")
    assert Path("again.html").read_text("utf-8") == report


def test_what_cannot_be_reported_is_said(evaluated):
    assert_user_error(evaluated("report", "--backbone", "other"), "no Mahalanobis distance by other")
    assert_user_error(evaluated("report", "--results", "nowhere"), "no results")
    assert_user_error(evaluated("report", "--data", "nowhere"), "no such folder")
    Path("other/knob").mkdir(parents=True)
    assert_user_error(evaluated("report", "--data", "other"), "none of the images that the page shows", "other")
    Path("results/made-up/sweeps.csv").write_text("dataset,category\n")
    assert_user_error(evaluated("report"), "sweeps.csv")


def metrics(*cells):
    """Rows of the Mahalanobis distance: network, level, category, AUROC."""
    key = {"weights": "w", "padding": "tf", "epochs": 0, "key": "k", "score": "mahalanobis", "mode": "all"}
    return pd.DataFrame(
        {**key, "backbone": name, "level": level, "category": category, "var": np.nan, "fold": 0, "auroc": auroc}
        for name, level, category, auroc in cells
    )


def test_networks_come_with_the_best_first():
    rows = metrics(
        ("a", "7", "knob", 0.8), ("a", "9", "knob", 0.99), ("b", "3", "knob", 0.9), ("b", "sum", "knob", 0.1)
    )
    assert [(network.title, network.level) for network in find_networks(rows)] == [("b", "3"), ("a", "7")]


def test_networks_on_unequal_sets_are_ordered_by_what_they_share():
    rows = metrics(("a", "7", "knob", 0.8), ("b", "7", "knob", 0.9), ("b", "7", "lid", 0.2))
    best, other = find_networks(rows)
    assert (best.title, best.categories) == ("b", ("knob", "lid"))
    assert (best.auroc, best.shared) == (pytest.approx(55.0), pytest.approx(90.0))
    assert (other.title, other.categories, other.shared) == ("a", ("knob",), pytest.approx(80.0))


def test_every_category_of_any_network_is_shown_and_means_say_over_what(gaussad):
    classes = ["good"] * 8 + ["dent"] * 8
    for network, categories in (("net-a", ["knob"]), ("net-b", ["knob", "lid"])):
        for category in categories:
            write_category(category, classes, network)
        done = gaussad("evaluate", "--backbone", network, "--sweep", "--levels", "2", "--mode", "all")
        assert done.code == 0, done.err
        assert gaussad("evaluate", "--backbone", network, "--threshold", "all", "--mode", "all").code == 0
    assert gaussad("report", "--backbone", "net-a").code == 0
    page = Path("results/made-up/report.html").read_text("utf-8")
    assert "<h3>knob</h3>" in page
    assert "<h3>lid, by net-b</h3>" in page
    for panel in ("Distances, lid, by net-b", "ROC curves, lid", "Calibration, lid, by net-b", "lid, by net-b: PCA"):
        assert panel in page, panel
    cards = " ".join(page[page.index('class="numbers"') : page.index('id="levels"')].split())
    assert "over knob, lid; over what all networks share:" in cards
    assert "ordered by their means over those that all of them share, knob." in cards
    assert gaussad("tables", "--table", "5").code == 0


@pytest.mark.parametrize("name", ["../secret.png", "{here}/secret.png", "test/../../secret.png"])
def test_no_picture_is_taken_from_outside_the_folder_of_images(evaluated, tmp_path, name):
    for folder in (tmp_path, tmp_path / "images"):
        write_image(folder / "secret.png", seed=0)
    for path in Path("results/made-up/scores").iterdir():
        text = path.read_text("utf-8")
        for image in set(re.findall(r"test/(?!good/)\w+/\d+\.png", text)):
            write_image(tmp_path / "images" / path.stem / image, seed=1)
        path.write_text(re.sub(r"test/good/\d+\.png", name.format(here=tmp_path), text), "utf-8")
    assert evaluated("report", "--data", "images", "--out", "page.html").code == 0
    text = Path("page.html").read_text("utf-8")
    assert "secret.png" in text
    assert "data:image" in text
    assert thumbnail(tmp_path, Path("secret.png")) not in text


def test_a_folder_of_images_that_lacks_categories_is_told(evaluated):
    images = set(re.findall(r"test/\w+/\d+\.png", Path("results/made-up/scores/knob.csv").read_text("utf-8")))
    for image in images:
        write_image(Path("images/knob") / image, seed=0)
    assert evaluated("report", "--data", "images", "--out", "page.html").code == 0
    assert "The folder of images does not hold lid." in Path("page.html").read_text("utf-8")
    shutil.move("images/knob", "images/button")
    assert_user_error(evaluated("report", "--data", "images"), "images holds none of the categories: knob, lid")


def test_rows_of_different_images_are_not_reported(evaluated):
    (path,) = Path("results/made-up/manifests").iterdir()
    manifest = manifests.read(path)
    (record,) = manifest.categories["knob"][:1]
    images = {split: manifests.Images(8, split) for split in ("train", "test")}
    others = [
        Record(Origin({**images, "train": manifests.Images(n, f"{n}")}, {}), record.cells[n : n + 1]) for n in (0, 1)
    ]
    manifests.write(Path("results/made-up"), replace(manifest, categories={"knob": tuple(others)}))
    for command in ("report", "tables"):
        assert_user_error(evaluated(command), "rows of category 'knob' would come from different images")
