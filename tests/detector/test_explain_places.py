"""What an explanation by a model of places says, against the model; and its picture."""

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from gaussad_cli.detector.explain_places import PlacesExplainer
from gaussad_cli.detector.heatmaps import locate
from gaussad_cli.gaussian.places import join_levels
from tests.detector.test_explain import count_decoding
from tests.detector.tiny_network import (
    GRID,
    SIZE,
    features,
    open_tiny_network,
    pictures,
    tiny_places_model,
    write_pictures,
)


def explainer():
    model = tiny_places_model()
    return PlacesExplainer(model, model.places, open_tiny_network(grid=GRID).engine)


def test_score_and_decision_and_heat_map_are_the_models():
    one = explainer()
    for square in [*pictures(3, seed=6), *pictures(3, seed=7) // 4]:
        explained, seen = one.explain(square, "x"), features(square[None], grid=GRID)
        own = one.model.score(seen)
        assert explained.score == pytest.approx(own[0], rel=1e-6)
        assert explained.anomalous == (own[0] > one.model.calibration.threshold)
        assert explained.p_value == one.model.calibration.p_values(own)[0]
        np.testing.assert_allclose(explained.distances, one.places.heat_maps(seen)[0], rtol=1e-6)
        assert explained.deviation == locate(explained.distances, explained.scale.threshold, (SIZE, SIZE))


def test_an_image_of_another_size_is_explained_in_its_own_pixels():
    one, image = explainer(), pictures(1, seed=7, height=80, width=130)[0]
    image[30:60, 90:120] = 255 - image[30:60, 90:120]
    explained = one.explain(image, "x")
    assert explained.pixels is image
    assert (explained.deviation.x, explained.deviation.y) == tuple(
        int((place + 0.5) * length / GRID)
        for place, length in zip(
            np.argwhere(explained.distances == explained.distances.max())[0, ::-1], (130, 80), strict=True
        )
    )


def test_shares_add_up_and_those_of_a_level_are_of_its_channels():
    one, square = explainer(), pictures(1, seed=7)[0] // 4
    explained = one.explain(square, "x")
    assert sum(explained.shares.values()) == pytest.approx(1.0)
    assert list(explained.shares) == [1, 2]
    joined = join_levels(features(square[None], grid=GRID), GRID**2)[0]
    place = int(explained.distances.argmax())
    joined[place, 6:] = one.places.gaussians.mean[place, 6:]  # as normal as can be at level 2
    fitted = one.places.gaussians
    deviation = (joined - fitted.mean)[place] @ fitted.basis
    alone = np.square(fitted.factors[place] @ deviation).sum()
    both = fitted.squared(join_levels(features(square[None], grid=GRID), GRID**2))[0, place]
    cross = explained.shares[1] * both - alone  # what the two levels' deviations have in common, counted once
    assert explained.shares[2] * both == pytest.approx(both - alone - cross, rel=1e-4)


def test_the_row_is_json_and_the_table_says_where():
    one = explainer()
    explained = one.explain(pictures(1, seed=7)[0] // 4, "x")
    row = json.loads(json.dumps(explained.row(), allow_nan=False))
    assert row["place"] == [explained.deviation.x, explained.deviation.y]
    assert row["box"] == list(explained.deviation.box)
    assert [level["level"] for level in row["levels"]] == [1, 2]
    assert (
        f"x {row['place'][0]}, y {row['place'][1]}; beyond the threshold around it: x {row['box'][0]} to"
        in explained.table()
    )
    calm = replace(one, model=replace(one.model, calibration=replace(one.model.calibration, threshold=np.inf)))
    explained = calm.explain(pictures(1)[0], "x")
    assert explained.row()["threshold"] is explained.row()["box"] is None
    assert "nothing is beyond the threshold" in explained.table()


def test_an_image_is_read_at_its_own_size_and_decoded_once(tmp_path, monkeypatch):
    image = pictures(1, seed=7, height=50, width=70)[0]
    (path,) = write_pictures(tmp_path, [image])
    gray = tmp_path / "gray.png"
    Image.fromarray(image[..., 0]).save(gray)
    decoded = count_decoding(monkeypatch)
    np.testing.assert_array_equal(explainer().read(path), image)
    np.testing.assert_array_equal(explainer().read(gray), np.repeat(image[..., :1], 3, axis=2))
    assert decoded == [path, gray]


def test_what_is_odd_about_a_file_is_told(tmp_path, capsys):
    pages = [Image.fromarray(page) for page in pictures(2)]
    pages[0].save(tmp_path / "two.tif", save_all=True, append_images=pages[1:])
    explainer().read(tmp_path / "two.tif")
    assert "several pages" in capsys.readouterr().err
