"""The feature cache: what is written is read again, and what is damaged, of other images or unfinished is not taken."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from gaussad_cli.errors import ImageError, UserError
from gaussad_cli.extraction import store
from gaussad_cli.files import sha256_of
from tests.conftest import ROOT

RECIPE = store.Recipe("net", 2, "net-1234", "a" * 64, "native", 32)
LITE0 = store.Recipe("efficientnet-lite0", 9, "w", "b" * 64, "tf", 224, engine="onnx")
AUGMENTED = dataclasses.replace(RECIPE, epochs=3, augmentation="mvtec", seed=7)


def manifest_of(recipe=RECIPE, n=5, split="train", dataset="d", category="knob"):
    images = tuple(store.ImageEntry(f"{split}/good/{i}.png", "good", f"{i:064x}") for i in range(n))
    return store.Manifest(dataset, category, split, recipe, images, {})


def draw(*shape):
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def write_split(cache, recipe=RECIPE, split="train", dataset="d", category="knob"):
    manifest = manifest_of(recipe, 2, split, dataset, category)
    folder = store.split_folder(cache, dataset, recipe, category, split)
    store.write_features(folder, manifest, {1: draw(*manifest.rows, 3)})
    return folder


def write_category(cache, recipe=RECIPE, **where):
    write_split(cache, recipe.plain(), "test", **where)
    return write_split(cache, recipe, "train", **where).parent


# --- the key ---


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(store.Recipe) if field.name != "weights"])
def test_the_key_changes_with_every_field_that_changes_the_numbers(field):
    value = getattr(AUGMENTED, field)
    other = value + 1 if isinstance(value, int) else f"{value}, another"
    assert dataclasses.replace(AUGMENTED, **{field: other}).key != AUGMENTED.key


def test_the_key_ignores_the_label_of_the_weights():
    assert dataclasses.replace(RECIPE, weights="the same file, renamed").key == RECIPE.key


def test_without_epochs_the_key_ignores_how_images_would_be_augmented():
    assert dataclasses.replace(RECIPE, augmentation="mvtec", seed=7).key == RECIPE.key


def test_the_keys_of_the_committed_results_are_those_of_their_recipes():
    contents = [json.loads(path.read_text()) for path in ROOT.glob("results/*/manifests/*.json")]
    fields = {field.name for field in dataclasses.fields(store.Recipe)}
    extracted = [content for content in contents if set(content["recipe"]) == fields - {"grid"}]
    assert extracted
    assert [store.Recipe(**content["recipe"]).key for content in extracted] == [c["key"] for c in extracted]


@pytest.mark.parametrize(
    ("recipe", "key"),
    [
        (store.Recipe("efficientnet-b4", 9, "b4-1234", "a" * 64, "tf", 380), "02370f15ba89c944"),
        (LITE0, "39e2eb9443543786"),
        (dataclasses.replace(LITE0, epochs=100, augmentation="paper/1", seed=3), "2f3ca3db9d903e2d"),
    ],
)
def test_averaged_features_have_the_keys_that_they_had_before_there_were_grids(recipe, key):
    """The keys are those of the last commit whose recipes know no grid."""
    assert recipe.key == key
    assert "grid" not in recipe.content


def test_a_plain_recipe_is_that_of_the_same_network_without_augmentation():
    assert AUGMENTED.plain() == RECIPE


# --- features ---


@pytest.fixture
def folder(tmp_path):
    """The folder of the training images of `knob`."""
    path = store.split_folder(tmp_path, "d", RECIPE, "knob", "train")
    path.mkdir(parents=True)
    return path


def test_a_manifest_is_read_as_it_was_written(folder):
    written = store.write_features(folder, manifest_of(), {1: draw(5, 3), 2: draw(5, 4)})
    assert dataclasses.replace(store.read_manifest(folder), versions={}) == written


def test_a_manifest_names_the_versions_of_the_libraries(folder):
    store.write_features(folder, manifest_of(), {})
    assert store.read_manifest(folder).versions["numpy"] == np.__version__


@pytest.mark.parametrize(("recipe", "shape"), [(RECIPE, (5, 3)), (AUGMENTED, (5, 3, 4))])
def test_features_are_read_as_they_were_written(folder, recipe, shape):
    manifest = store.write_features(folder, manifest_of(recipe), {1: draw(*shape)})
    np.testing.assert_array_equal(store.read_features(folder, manifest, 1), draw(*shape))


PLACES = dataclasses.replace(RECIPE, grid=3)


@pytest.mark.parametrize("recipe", [PLACES, dataclasses.replace(PLACES, epochs=3, augmentation="mvtec")])
def test_features_of_places_are_read_as_they_were_written(tmp_path, recipe):
    manifest = manifest_of(recipe)
    folder = store.split_folder(tmp_path, "d", recipe, "knob", "train")
    store.write_features(folder, manifest, {1: draw(*manifest.rows, 9 * 2)})
    read = store.read_manifest(folder)
    assert read.recipe == recipe
    np.testing.assert_array_equal(store.read_features(folder, read, 1), draw(*manifest.rows, 9 * 2))


def test_large_features_of_places_are_a_memory_map(folder, monkeypatch):
    manifest = store.write_features(folder, manifest_of(PLACES), {1: draw(5, 18)})
    monkeypatch.setattr(store, "ON_DISK", 5 * 18 * 4)
    assert isinstance(store.read_features(folder, manifest, 1), np.memmap)


def test_features_that_are_no_multiple_of_the_places_are_not_written(folder):
    with pytest.raises(UserError, match="level 1: D = 20 is no multiple of 9, and the recipe has 3 x 3 places"):
        store.write_features(folder, manifest_of(PLACES), {1: draw(5, 20)})


def test_a_level_file_is_what_numpy_would_save(folder):
    store.write_features(folder, manifest_of(), {1: draw(5, 3)})
    np.save(folder / "numpys.npy", draw(5, 3))
    assert (folder / "level_1.npy").read_bytes() == (folder / "numpys.npy").read_bytes()


def test_levels_of_an_earlier_run_stay_in_the_manifest(folder):
    first = store.write_features(folder, manifest_of(), {2: draw(5, 4)})
    store.write_features(folder, first, {1: draw(5, 3)})
    assert list(store.read_manifest(folder).levels) == [1, 2]


@pytest.mark.parametrize(
    ("recipe", "values"),
    [
        (RECIPE, draw(4, 3)),
        (RECIPE, draw(5)),
        (RECIPE, draw(5, 0)),
        (RECIPE, draw(5, 3).astype(np.float64)),
        (AUGMENTED, draw(5, 2, 4)),
    ],
)
def test_features_that_are_not_a_float32_row_per_image_are_not_written(folder, recipe, values):
    with pytest.raises(UserError, match="level 1: features must be"):
        store.write_features(folder, manifest_of(recipe), {1: values})
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_feature_that_is_not_finite_names_its_image(folder, value):
    features = draw(5, 3)
    features[[1, 3], 2] = value
    with pytest.raises(ImageError, match=r"image knob/train/good/1\.png and 1 more"):
        store.write_features(folder, manifest_of(), {1: features})


def test_a_feature_that_is_not_finite_in_the_file_names_its_image(folder):
    features = draw(5, 3)
    features[4, 0] = np.nan
    np.save(folder / "level_1.npy", features)
    entry = store.LevelEntry("level_1.npy", (5, 3), "float32", sha256_of(folder / "level_1.npy"))
    manifest = dataclasses.replace(manifest_of(), levels={1: entry})
    with pytest.raises(ImageError, match=r"image knob/train/good/4\.png\."):
        store.read_features(folder, manifest, 1)


def test_an_edited_manifest_is_found_out_by_its_digest(folder):
    store.write_features(folder, manifest_of(), {1: draw(5, 3)})
    path = folder / "manifest.json"
    path.write_text(path.read_text().replace('"label": "good"', '"label": "scratch"', 1))
    with pytest.raises(UserError, match=r"manifest\.json was edited"):
        store.read_manifest(folder)


def test_a_manifest_of_another_schema_is_refused_whatever_its_digest(folder):
    store.write_features(folder, manifest_of(), {})
    path = folder / "manifest.json"
    path.write_text(json.dumps(store.sealed({**json.loads(path.read_text()), "schema": 2})))
    with pytest.raises(UserError, match="schema 2, this gaussad reads 1"):
        store.read_manifest(folder)


def test_a_manifest_cannot_point_out_of_its_folder(folder):
    store.write_features(folder, manifest_of(), {1: draw(5, 3)})
    path = folder / "manifest.json"
    content = json.loads(path.read_text())
    content["levels"]["1"]["file"] = "../../level_1.npy"
    path.write_text(json.dumps(store.sealed(content)))
    assert store.read_manifest(folder).levels[1].file == "level_1.npy"


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-4]), r"level_1\.npy was cut short or changed"),
        (lambda path: path.write_bytes(path.read_bytes()[:-1] + b"\x00"), r"level_1\.npy was cut short or changed"),
        (lambda path: path.unlink(), r"cannot read .*level_1\.npy"),
    ],
    ids=["cut", "changed", "missing"],
)
def test_a_damaged_level_file_is_named_with_what_to_run(folder, damage, problem):
    manifest = store.write_features(folder, manifest_of(), {1: draw(5, 3)})
    damage(folder / "level_1.npy")
    with pytest.raises(UserError, match=f"{problem}.* Run 'gaussad extract' again"):
        store.read_features(folder, manifest, 1)


def test_the_levels_that_are_there_and_whole_need_no_work(folder):
    manifest = store.write_features(folder, manifest_of(), {1: draw(5, 3), 2: draw(5, 4)})
    (folder / "level_2.npy").write_bytes(b"")
    assert store.whole_levels(folder, RECIPE, manifest.images) == {1: manifest.levels[1]}


@pytest.mark.parametrize(
    ("recipe", "n"), [(RECIPE, 4), (dataclasses.replace(RECIPE, engine="onnx"), 5)], ids=["images", "recipe"]
)
def test_levels_of_other_images_or_another_recipe_are_not_taken(folder, recipe, n):
    store.write_features(folder, manifest_of(), {1: draw(5, 3)})
    assert store.whole_levels(folder, recipe, manifest_of(n=n).images) == {}


# --- features for which spectra stand ---


@pytest.fixture
def category(folder):
    """A category with the training features of two levels, and the spectra of the first."""
    store.write_features(folder, manifest_of(), {1: draw(5, 3), 2: draw(5, 4)})
    store.write_arrays(store.spectra_path(folder.parent, 1), {"eigenvalues": draw(3)})
    return folder.parent


def test_features_are_not_removed_unless_all_their_spectra_are_there(category):
    with pytest.raises(UserError, match=r"level_2\.npz is missing"):
        store.forget_features(category, [1, 2])
    manifest = store.read_manifest(category / "train")
    np.testing.assert_array_equal(store.read_features(category / "train", manifest, 1), draw(5, 3))


def test_only_the_features_that_spectra_stand_for_are_removed(category):
    store.forget_features(category, [1])
    assert {path.name for path in (category / "train").iterdir()} == {"level_2.npy", "manifest.json"}


def test_features_that_were_not_kept_are_missed_with_a_reason(category):
    store.forget_features(category, [1])
    with pytest.raises(UserError, match=r"features of level 1 .* were not kept"):
        store.read_features(category / "train", store.read_manifest(category / "train"), 1)


@pytest.mark.parametrize(("is_changed", "whole"), [(False, {1, 2}), (True, {2})])
def test_spectra_stand_for_features_until_they_are_changed(category, is_changed, whole):
    store.forget_features(category, [1])
    if is_changed:
        store.write_arrays(store.spectra_path(category, 1), {"eigenvalues": draw(2)})
    assert set(store.whole_levels(category / "train", RECIPE, manifest_of().images)) == whole


# --- a split lies in its own folder ---


@pytest.mark.parametrize(
    "there",
    [
        "d/net/{key}/lid/train",
        "d/net/{key}/knob/test",
        "d/net/0123456789abcdef/knob/train",
        "d/ten/{key}/knob/train",
        "e/net/{key}/knob/train",
    ],
    ids=["category", "split", "key", "backbone", "data set"],
)
def test_a_split_in_a_folder_of_another_is_refused_and_extracted_again(tmp_path, there):
    moved = tmp_path / there.format(key=RECIPE.key)
    moved.parent.mkdir(parents=True, exist_ok=True)
    manifest = store.read_manifest(write_split(tmp_path))
    store.split_folder(tmp_path, "d", RECIPE, "knob", "train").rename(moved)
    with pytest.raises(UserError, match=f"{there.format(key=RECIPE.key)}/manifest.json belongs in d/net/.*/knob/train"):
        store.read_manifest(moved)
    assert store.whole_levels(moved, RECIPE, manifest.images) == {}


def test_a_whole_cache_may_be_moved_or_linked_to(tmp_path):
    folder = write_split(tmp_path / "cache")
    (tmp_path / "cache").rename(tmp_path / "moved")
    (tmp_path / "link").symlink_to("moved")
    for name in ("moved", "link"):
        assert store.read_manifest(tmp_path / name / folder.relative_to(tmp_path / "cache")).category == "knob"


def test_a_split_is_read_from_within_its_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(write_split(tmp_path).parent)
    assert store.read_manifest(Path("train")).split == "train"


# --- named arrays ---


def test_arrays_are_read_as_they_were_written(tmp_path):
    store.write_arrays(tmp_path / "a.npz", {"x": draw(3, 2), "source": np.array("text")})
    arrays = store.read_arrays(tmp_path / "a.npz")
    assert arrays.keys() == {"x", "source"}
    np.testing.assert_array_equal(arrays["x"], draw(3, 2))


def test_the_same_arrays_are_the_same_bytes(tmp_path):
    for name in ("a.npz", "b.npz"):
        store.write_arrays(tmp_path / name, {"x": draw(3, 2)})
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


@pytest.mark.parametrize("has_digest", [True, False], ids=["its digest", "no digest"])
def test_edited_arrays_are_not_read(tmp_path, has_digest):
    path = tmp_path / "a.npz"
    store.write_arrays(path, {"x": draw(3, 2)})
    with np.load(path) as file:
        digest = {"digest": file["digest"]} if has_digest else {}
    np.savez(path, x=draw(3, 2) * 2, **digest)
    assert store.read_arrays(path) is None


def test_arrays_without_a_digest_are_read_where_a_manifest_has_the_files(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, x=draw(3, 2))
    assert store.read_arrays(path, sha256_of(path)) is not None
    assert store.read_arrays(path, "0" * 64) is None


# --- shards ---

NAMES = [f"knob/train/good/{i}.png" for i in range(5)]


def write_shards(folder):
    """Five images' features of two levels in shards of two, two and one images."""
    shards = []
    for start in (0, 2, 4):
        rows = slice(start, start + 2)
        shards.append(store.Shard.of(folder, start, NAMES[rows], (1, 2)))
        hashes = [f"{i:064x}" for i in range(5)][rows]
        shards[-1].write(hashes, {1: draw(5, 3)[rows], 2: draw(5, 4)[rows]})
    return shards


def test_joined_shards_are_the_same_bytes_as_one_write(tmp_path):
    shards = write_shards(tmp_path / "shards")
    store.join_shards(tmp_path / "shards", manifest_of(), shards)
    store.write_features(tmp_path / "whole", manifest_of(), {1: draw(5, 3), 2: draw(5, 4)})
    joined, whole = (sorted((tmp_path / name).iterdir()) for name in ("shards", "whole"))
    assert [(path.name, path.read_bytes()) for path in joined] == [(path.name, path.read_bytes()) for path in whole]


def test_a_shard_gives_back_the_hashes_of_its_images(tmp_path):
    first, *_ = write_shards(tmp_path)
    assert first.read_hashes() == [f"{i:064x}" for i in range(2)]


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(path.read_bytes()[:-30]),
        lambda path: path.write_bytes(path.read_bytes().replace(draw(5, 3)[:2].tobytes(), bytes(24))),
        lambda path: path.unlink(),
        lambda path: np.savez(path, sha256=np.array(["0", "1"]), level_1=draw(2, 3)),
        lambda path: np.savez(path, sha256=np.array(["0", None]), level_1=draw(2, 3), level_2=draw(2, 4)),
    ],
    ids=["cut", "changed", "missing", "without a level", "pickled"],
)
def test_a_damaged_shard_is_not_taken(tmp_path, damage):
    first, *_ = write_shards(tmp_path)
    damage(first.path)
    assert first.read_hashes() is None


@pytest.mark.parametrize(
    ("start", "names", "levels"),
    [(2, NAMES[:2], (1, 2)), (0, NAMES[1::-1], (1, 2)), (0, NAMES[:3], (1, 2)), (0, NAMES[:2], (1,))],
    ids=["place", "order", "images", "levels"],
)
def test_a_shard_of_another_place_or_content_is_not_taken(tmp_path, start, names, levels):
    write_shards(tmp_path)
    assert store.Shard.of(tmp_path, start, names, levels).read_hashes() is None


def test_a_shard_with_a_feature_that_is_not_finite_names_the_image(tmp_path):
    features = draw(2, 3)
    features[1, 0] = np.inf
    with pytest.raises(ImageError, match=r"image knob/train/good/1\.png\."):
        store.Shard.of(tmp_path, 0, NAMES[:2], (1,)).write(["0", "1"], {1: features})


# --- finding extractions ---


def test_an_extraction_is_found_with_its_data_set_folder_and_recipe(tmp_path):
    category = write_category(tmp_path)
    assert store.find_extractions(tmp_path, "net") == [store.Extraction("d", category.parent, RECIPE)]


def test_extractions_by_other_backbones_are_not_found(tmp_path):
    write_category(tmp_path)
    assert store.find_extractions(tmp_path, "ne") == []


def test_without_a_data_set_those_of_all_are_found(tmp_path):
    for dataset in ("one", "two"):
        write_category(tmp_path, dataset=dataset)
    assert [found.dataset for found in store.find_extractions(tmp_path, "net")] == ["one", "two"]


def test_a_data_sets_name_is_no_pattern(tmp_path):
    for dataset in ("[ab]", "a"):
        write_category(tmp_path, dataset=dataset)
    assert [found.dataset for found in store.find_extractions(tmp_path, "net", "[ab]")] == ["[ab]"]


def test_a_backbone_of_timm_is_found_by_its_name(tmp_path):
    write_category(tmp_path, dataclasses.replace(RECIPE, backbone="timm:net"))
    assert len(store.find_extractions(tmp_path, "timm:net")) == 1


@pytest.mark.parametrize("split", ["train", "test"])
def test_an_extraction_without_a_complete_category_is_not_found(tmp_path, split):
    write_split(tmp_path, split=split)
    assert store.find_extractions(tmp_path, "net") == []


def test_only_complete_categories_are_listed_in_order(tmp_path):
    for name in ("lid", "knob"):
        write_category(tmp_path, category=name)
    write_split(tmp_path, category="bolt")
    (found,) = store.find_extractions(tmp_path, "net")
    assert found.categories() == ["knob", "lid"]


def test_the_test_images_of_an_augmented_extraction_are_those_of_the_plain_recipe(tmp_path):
    write_category(tmp_path, AUGMENTED)
    (found,) = store.find_extractions(tmp_path, "net")
    assert found.split("knob", "test") == tmp_path / "d/net" / RECIPE.key / "knob/test"


def test_a_damaged_manifest_does_not_hide_the_recipe_of_the_others(tmp_path):
    damaged = write_category(tmp_path, category="bolt")
    write_category(tmp_path, category="knob")
    (damaged / "train/manifest.json").write_text("{")
    assert [found.recipe for found in store.find_extractions(tmp_path, "net")] == [RECIPE]


def test_an_extraction_of_which_no_manifest_can_be_read_is_an_error(tmp_path):
    (write_category(tmp_path) / "train/manifest.json").write_text("{")
    with pytest.raises(UserError, match="cannot read"):
        store.find_extractions(tmp_path, "net")
