"""The extraction bench's comparisons of memory and AUROC, on a few images: the real ones take a quiet machine."""

import os

import pandas as pd
import pytest

from gaussad_cli.datasets.index import find_categories
from scripts import bench_comparators, bench_core, bench_extract


def bench(monkeypatch, data, *options):
    """Run the script in this process; return its exit code."""
    arguments = ["bench_extract.py", "--data", data, "--images", 8, "--levels", "3", *options]
    monkeypatch.setattr("sys.argv", list(map(str, arguments)))
    return bench_extract.main()


def test_images_are_repeated_to_a_data_set_of_any_size(tmp_path, tiny):
    images = find_categories(tiny)[0].train
    bench_extract.repeat_images(images, tmp_path / "many/bench", 20)
    (category,) = find_categories(tmp_path / "many")
    assert (len(category.train), len(category.test)) == (19, 1)
    assert category.train[5].path.read_bytes() == images[0].path.read_bytes()


def test_without_links_images_are_copied(tmp_path, tiny, monkeypatch):
    monkeypatch.setattr("pathlib.Path.symlink_to", lambda *_: (_ for _ in ()).throw(OSError))
    bench_extract.repeat_images(find_categories(tiny)[0].train, tmp_path / "many/bench", 20)
    paths = list((tmp_path / "many").rglob("*.png"))
    assert len(paths) == 20
    assert not any(path.is_symlink() for path in paths)


@pytest.mark.parametrize(("many", "code"), [(1100.0, 0), (1110.0, 1)])
def test_memory_prints_both_peaks_and_fails_beyond_a_tenth(tmp_path, tiny, monkeypatch, capsys, many, code):
    """The measurements are stand-ins, but for the extraction that the first makes."""

    def measured(name, options, argument):
        count, _, folder = argument.partition(":")
        if count == str(bench_extract.EPOCHS):
            seconds, _ = bench_extract.memory(bench_extract.Setting.of(options), argument)
            assert seconds > 0
            assert list((tmp_path / folder).glob("cache/images-8/efficientnet-lite0/*/bench/train/manifest.json"))
        return {"memory": {"20": 1000.0, "40": many}.get(count), "rate": 1.0}

    monkeypatch.setattr(bench_extract, "measured", measured)
    assert bench(monkeypatch, tiny, "--memory", "--counts", 20, 40) == code
    told = capsys.readouterr().out
    for part in ("20 images: peak 1000 MB", f"40 images: peak {many:.0f} MB", f"ratio {many / 1000:.3f}"):
        assert part in told


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_images(tiny, monkeypatch):
    assert bench(monkeypatch, tiny, "--memory", "--counts", 60, 600) == 0


def test_auroc_compares_every_category_level_and_scoring(tiny, monkeypatch, capsys):
    monkeypatch.setattr(bench_extract, "AUROC_TOLERANCE", 100)
    assert bench(monkeypatch, tiny, "--auroc", "--levels", "2-3") == 0
    told = capsys.readouterr().out
    assert "levels 2-3 and their sum, 2 categories, 8 scorings: 48 AUROCs" in told  # 2 x 3 x 8


def test_auroc_fails_where_features_differ(tiny, monkeypatch, capsys):
    plain = bench_extract.plain

    def reversed_rows(setting, argument):
        seconds, features = plain(setting, argument)
        return seconds, {level: values[::-1] for level, values in features.items()}

    monkeypatch.setattr(bench_extract, "plain", reversed_rows)
    assert bench(monkeypatch, tiny, "--auroc", "--categories", "knob") == 1
    assert "1 categories" in capsys.readouterr().out


def test_differences_are_of_fold_means_and_in_points():
    rows = pd.DataFrame(
        {"category": "lid", "level": "3", "score": "l2", "mode": "all", "var": [float("nan")] * 2, "auroc": [0.5, 0.7]}
    )
    other = rows.assign(auroc=[0.5, 0.72])
    assert list(bench_extract.auroc_differences(rows, other)) == [pytest.approx(1.0)]
    with pytest.raises(ValueError, match="same rows"):
        bench_extract.auroc_differences(rows, other.assign(level="4"))


@pytest.mark.parametrize("script", [bench_core, bench_comparators, bench_extract])
def test_where_the_system_keeps_no_load_the_benches_say_so(monkeypatch, script):
    monkeypatch.delattr(os, "getloadavg", raising=False)
    assert script._load() == "unknown"
