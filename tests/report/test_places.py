"""The report's section on places, from results and images made up here."""

import base64
import re
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from gaussad_cli.evaluation import results
from gaussad_cli.evaluation.metrics import image_metrics
from gaussad_cli.evaluation.pixels import aupro, collect, pixel_auroc
from gaussad_cli.evaluation.rows import CategoryRows, score_rows
from gaussad_cli.extraction.store import ImageEntry
from gaussad_cli.gaussian.places import greatest
from gaussad_cli.report.pixel_curves import draw_pixel_curves
from gaussad_cli.report.places import choose_examples, normal_scale
from gaussad_cli.report.places_settings import find_places
from gaussad_cli.report.thumbnails import PIXELS, mask_thumbnail
from tests.conftest import assert_user_error, write_image
from tests.report.test_report import Page, write_category

KEY = {"dataset": "made-up", "weights": "w", "padding": "native", "epochs": 0, "key": "k", "level": "joint:3-6"}
KEY |= {"score": "places", "mode": "npca", "var": 0.1}
NAMES = [f"test/{label}/{i}.png" for label in ("good", "dent") for i in range(8)]
ANOMALOUS = np.arange(16) >= 8
SIZE = 40  # pixels of an image


def masks():
    """Where the anomalous images are anomalous: a quarter, on the right or the left."""
    found = np.zeros((16, SIZE, SIZE), bool)
    found[8::2, 10:20, 20:] = True
    found[9::2, 10:20, :20] = True
    return found


def heat_maps(category, shift=3.0):
    """Draw maps of 4 x 4 places, farther out where the masks are."""
    rng = np.random.default_rng(len(category))
    return rng.gamma(9.0, 1.0, (16, 4, 4)) + shift * masks()[:, 5::10, 5::10] * rng.uniform(0, 4, (16, 1, 1))


def write_places(category, shift=3.0, keep=True, pixels=0.9, **other):
    """Write the rows, and the heat maps, of a category, and return the distances."""
    maps = heat_maps(category, shift)
    distance = greatest(maps)
    key = {**KEY, "category": category, "backbone": "my-net", **other}
    measured = {**image_metrics(distance, ANOMALOUS), "pixel_auroc": pixels, "aupro": pixels, "pointing": pixels}
    metrics = pd.DataFrame({**key, "fold": fold, "n_train": 9, "dim": 4, **measured} for fold in range(5))
    images = [ImageEntry(name, Path(name).parts[1], "") for name in NAMES]
    scores = score_rows(key, images, ANOMALOUS, [distance] * 5)
    results.save(Path("results"), "made-up", category, CategoryRows(metrics, scores))
    if keep:
        results.save_maps(Path("results"), key, NAMES, maps)
    return distance


def write_images(category, with_masks=True):
    for number, (name, mask) in enumerate(zip(NAMES, masks(), strict=True)):
        write_image(Path("images") / category / name, seed=number, size=SIZE)
        if with_masks and mask.any():
            path = Path("images") / category / "ground_truth" / "dent" / f"{Path(name).stem}_mask.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(mask.astype(np.uint8) * 255).save(path)


@pytest.fixture
def page(gaussad):
    """Make the report, and return its text."""

    def make(*options):
        done = gaussad("report", *options)
        assert done.code == 0, done.err
        return Path("results/made-up/report.html").read_text("utf-8")

    return make


def section(text):
    """Return the section on places, spaces made one."""
    return " ".join(text[text.index('id="places"') : text.index('id="tables"')].split())


def pictures(text, what):
    """Decode all pictures of a kind."""
    urls = re.findall(rf'src="data:image/\w+;base64,([^"]+)" alt="{what} of', text)
    return [cv2.imdecode(np.frombuffer(base64.b64decode(url), np.uint8), cv2.IMREAD_COLOR) for url in urls]


def test_picture_heat_map_and_mask_stand_side_by_side(page):
    for category in ("knob", "lid"):
        write_places(category)
        write_images(category)
    text = page("--data", "images")
    shown = section(text)
    assert shown.count('class="place"') == 2 * 12
    for what in ("picture", "heat map", "mask"):
        assert len(pictures(shown, what)) == 2 * 12, what
    assert {picture.shape for picture in pictures(shown, "heat map")} == {(PIXELS, PIXELS, 3)}
    assert shown.count("<svg") == 2
    assert "No heat maps" not in shown
    assert "need the images" not in shown
    assert 'href="#places"' in text
    page = Page(text)
    ids = page.values("id")
    assert len(ids) == len(set(ids))
    links = [value[1:] for value in [*page.values("href"), *page.values("xlink:href")]]
    assert set(links) <= set(ids)
    assert not {"script", "link", "iframe"} & {tag for tag, _ in page.tags}


def test_without_images_heat_maps_are_shown_and_the_command_is_said(page):
    write_places("knob")
    shown = section(page())
    assert "run gaussad report --data DIR" in shown
    assert len(pictures(shown, "heat map")) == 12
    assert pictures(shown, "picture") == pictures(shown, "mask") == []
    assert "<svg" not in shown


def test_without_heat_maps_images_are_shown_and_the_command_is_said(page):
    write_places("knob", keep=False)
    write_places("lid")
    for category in ("knob", "lid"):
        write_images(category)
    shown = section(page("--data", "images"))
    assert "No heat maps of knob were kept: run gaussad evaluate --backbone my-net --score places --maps" in shown
    assert len(pictures(shown, "heat map")) == 12
    assert len(pictures(shown, "picture")) == len(pictures(shown, "mask")) == 24
    assert shown.count("<svg") == 1


def test_without_masks_there_are_no_curves_and_it_is_said(page):
    write_places("knob")
    write_images("knob", with_masks=False)
    shown = section(page("--data", "images"))
    assert "No masks and no curves of pixels: the folder of images has no knob/ground_truth." in shown
    assert "<svg" not in shown
    Path("images/knob/ground_truth/dent").mkdir(parents=True)
    shown = section(page("--data", "images"))
    assert "Image or mask is missing or unreadable, and left out of the curves of pixels: 8 images." in shown


def test_the_section_stands_beside_that_of_averaged_features(gaussad, page):
    write_category("knob", ["good"] * 8 + ["dent"] * 8)
    assert gaussad("evaluate", "--backbone", "my-net", "--levels", "2", "--mode", "all").code == 0
    assert 'id="places"' not in page()
    write_places("knob")
    text = page()
    for anchor in ("levels", "roc", "images", "places", "tables", "run"):
        assert f'id="{anchor}"' in text, anchor
    assert "A Gaussian on pooled deep features" in text


def test_places_alone_have_a_page(page, gaussad):
    write_places("knob")
    text = page()
    assert 'id="levels"' not in text
    assert "One Gaussian per place on deep features" in text
    assert_user_error(gaussad("report", "--backbone", "other"), "no Mahalanobis distance by other")
    Path("empty").mkdir()
    assert_user_error(gaussad("report", "--data", "empty"), "empty holds none of the categories: knob")
    Path("empty/knob").mkdir()
    assert_user_error(gaussad("report", "--data", "empty"), "none of the images that the page shows can be read")


def test_the_table_has_the_numbers_of_every_setting_and_the_best_first(page):
    for setting, shift in (("npca rho=0.3", 0.5), ("npca", 9.0)):
        areas = [100 * image_metrics(write_places(name, shift, mode=setting), ANOMALOUS)["auroc"] for name in "ab"]
    text = section(page())
    lines = [re.sub("<.*?>", " ", line).split() for line in re.findall("<tr.*?</tr>", text)]
    assert lines[1] == ["my-net,", "levels", "3-6,", "NPCA", "10%:", "Places"]
    assert [lines[2][:2], lines[3][:2]] == [["a", f"{areas[0]:.1f}"], ["b", f"{areas[1]:.1f}"]]
    assert lines[4][:4] == ["mean", f"{np.mean(areas):.1f}", "±", f"{abs(areas[0] - areas[1]) / 2:.1f}"]
    assert " ".join(lines[5]) == "my-net, levels 3-6, NPCA 10%, rho=0.3: Places"
    assert len(lines) == 9
    assert "The pictures are of my-net, levels 3-6, NPCA 10%: Places," in text


def test_a_mean_over_some_categories_only_is_marked(page):
    write_places("knob", pixels=np.nan)
    write_places("lid", pixels=0.5)
    text = section(page())
    assert "50.0†" in text
    assert "†: a mean over fewer categories" in text


def test_categories_that_the_shown_setting_lacks_are_shown_by_another(page):
    write_places("knob", 9.0, mode="npca")
    for category in ("knob", "lid"):
        write_places(category, 0.5, mode="npca rho=0.3", backbone="other-net")
    text = section(page())
    assert "<h3>knob</h3>" in text
    assert "<h3>lid, by other-net, levels 3-6, NPCA 10%, rho=0.3: Places</h3>" in text
    assert "<h3>knob</h3>" in section(page("--backbone", "other-net"))
    assert "The pictures are of other-net," in section(page("--backbone", "other-net"))


def test_settings_on_unequal_sets_are_ordered_by_what_they_share(gaussad):
    write_places("knob", 0.5, backbone="a")
    write_places("knob", 2.0, backbone="b")
    write_places("lid", 0.0, backbone="b")
    settings = find_places(results.read_metrics(Path("results"), None))
    assert [places.source.variant.backbone for places in settings] == ["b", "a"]
    assert settings[0].percent["auroc"].mean() < settings[1].percent["auroc"].mean()


def scored(**distances):
    """Rows of scores, of images whose names begin with their class."""
    names = list(distances)
    anomalous = [int(name.startswith("a")) for name in names]
    return pd.DataFrame({"image": names, "anomalous": anomalous, "distance": list(distances.values())})


def test_worst_best_and_most_doubtful_images_are_chosen_by_their_score():
    rows = scored(n1=1, n2=2, n3=3, n4=4, n5=5.1, n6=9, a1=3.5, a2=5.2, a3=6, a4=7, a5=8, a6=20, a7=30, a8=40)
    misses, alarms, doubtful, best = choose_examples(rows).values()
    assert list(misses["image"]) == ["a1", "a2", "a3"]
    assert list(alarms["image"]) == ["n6", "n5", "n4"]
    assert list(best["image"]) == ["a8", "a7", "a6"]
    # F1 is greatest from a2 on (7 of 8 found, one false alarm), the threshold is 5.15; a2 and n5 are shown above
    assert list(doubtful["image"]) == ["a4", "n3", "a5"]
    assert "5.15" in list(choose_examples(rows))[2]


@pytest.mark.parametrize("only", ["n", "a"])
def test_with_one_class_only_nothing_is_doubtful(only):
    rows = scored(**{f"{only}{number}": float(number) for number in range(9)})
    chosen = list(choose_examples(rows).values())
    assert sum(len(kind) > 0 for kind in chosen) == (1 if only == "n" else 2)
    assert chosen[2].empty


def test_the_scale_is_fixed_by_normal_images():
    maps = np.random.default_rng(0).gamma(9.0, 1.0, (40, 5, 5)).astype(np.float32)
    scale = normal_scale(maps)
    assert scale.typical == pytest.approx(np.median([np.median(values) for values in maps]))
    beyond = [bool((values > scale.threshold).any()) for values in maps]
    assert sum(beyond) == 2  # 5 % of 40
    maps[0, 0, 0] = np.nan
    assert normal_scale(maps) is None


def test_colours_do_not_depend_on_anomalous_images(page):
    write_places("knob")
    before = section(page())
    maps = heat_maps("knob")
    results.save_maps(
        Path("results"),
        {**KEY, "category": "knob", "backbone": "my-net"},
        NAMES,
        np.where(ANOMALOUS[:, None, None], 50.0, maps),
    )
    after = section(page())
    line = re.compile("Scale of distances: from [0-9.]+ to [0-9.]+, outline at [0-9.]+")
    assert line.search(before)[0] == line.search(after)[0]
    assert before != after


def test_no_anomalous_pixel_vanishes_in_a_small_mask():
    mask = np.zeros((1000, 900), bool)
    mask[777, 123] = True
    url = mask_thumbnail(mask).partition(",")[2]
    small = cv2.imdecode(np.frombuffer(base64.b64decode(url), np.uint8), cv2.IMREAD_GRAYSCALE)
    assert small.shape == (PIXELS, PIXELS)
    assert set(np.unique(small)) == {0, 255}
    assert 1 <= (small > 0).sum() <= 4
    assert small[777 * PIXELS // 1000, 123 * PIXELS // 900] == 255


def test_the_curves_name_their_areas_and_mark_the_limit():
    found = collect(list(np.kron(heat_maps("knob"), np.ones((10, 10)))), list(masks()))
    panel = draw_pixel_curves(found, "knob", "p")
    assert f"ROC, area {100 * pixel_auroc(found):.1f} %" in panel.description
    assert f"PRO, area to 30 %: {100 * aupro(found):.1f} %" in panel.description
    assert "stroke-dasharray" in panel.svg
    assert len(panel.svg) < 60_000


def test_heat_maps_that_are_damaged_or_of_other_images_are_refused(gaussad):
    write_places("knob")
    row = {**KEY, "category": "knob", "backbone": "my-net"}
    results.save_maps(Path("results"), row, NAMES[1:], heat_maps("knob")[1:])
    assert_user_error(gaussad("report"), "heat maps of other images", "--maps again")
    results.maps_path(Path("results"), row).write_bytes(b"PK")
    assert_user_error(gaussad("report"), "is damaged", "--maps again")


@pytest.mark.parametrize("name", ["../secret.png", "{here}/secret.png", "secret.png"])
def test_no_picture_or_mask_is_taken_from_outside_the_folder_of_images(page, tmp_path, name):
    write_places("knob", keep=False)
    write_images("knob")
    for folder in (tmp_path, tmp_path / "images"):
        write_image(folder / "secret.png", seed=99)
    path = Path("results/made-up/scores/knob.csv")
    path.write_text(path.read_text("utf-8").replace("test/good/0.png", name.format(here=tmp_path)), "utf-8")
    shown = section(page("--data", "images"))
    assert "Image or mask is missing or unreadable, and left out of the curves of pixels: 1 images." in shown
    secret = cv2.imread(str(tmp_path / "secret.png"))
    assert all(np.abs(cv2.resize(one, (40, 40)) - 1.0 * secret).mean() > 5 for one in pictures(shown, "picture"))
