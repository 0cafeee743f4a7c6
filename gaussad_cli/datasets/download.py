"""Public data sets: fetched from their owners, verified, and put into folders in the MVTec layout."""

from __future__ import annotations

import csv
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from gaussad_cli.datasets.archive import Say, extract, fetch
from gaussad_cli.datasets.images import MASKS, SUFFIXES
from gaussad_cli.datasets.layouts import LAYOUTS, Layout
from gaussad_cli.errors import UserError, did_you_mean, interruptible
from gaussad_cli.files import locked, sha256_of, write_whole, writing


@dataclass(frozen=True)
class Source:
    """Where a data set is published, and under which terms.

    Attributes
    ----------
    page : where its owner links to the archive
    sha256 : of the archive, as its owner publishes it; "" if the owner publishes none
    pinned : SHA-256 that anomalib (github.com/open-edge-platform/anomalib) expects of the same address, where the
        owner publishes none: shown to the user, but not required
    own_masks : whether the masks must be rewritten to look like MVTec AD's
    """

    name: str
    holder: str
    licence: str
    terms: str
    page: str
    url: str
    categories: tuple[str, ...]
    layout: Layout
    sha256: str = ""
    pinned: str = ""
    own_masks: bool = True


_NC_SA = "Name the authors; no commercial use; pass it on under the same licence only."
SOURCES = {
    "mvtec": Source(
        "MVTec AD",
        "MVTec Software GmbH",
        "CC BY-NC-SA 4.0, https://creativecommons.org/licenses/by-nc-sa/4.0/",
        _NC_SA,
        "https://www.mvtec.com/company/research/datasets/mvtec-ad",
        "https://www.mydrive.ch/shares/150996/b52ecdcbf521176e9db9c731f2304b27/download/420938113-1629960298/"
        "mvtec_anomaly_detection.tar.xz",
        (
            *("bottle", "cable", "capsule", "carpet", "grid", "hazelnut", "leather", "metal_nut", "pill", "screw"),
            *("tile", "toothbrush", "transistor", "wood", "zipper"),
        ),
        LAYOUTS["mvtec"],
        sha256="cf4313b13603bec67abb49ca959488f7eedce2a9f7795ec54446c649ac98cd3d",
        own_masks=False,
    ),
    "visa": Source(
        "VisA",
        "Amazon.com, Inc. or its affiliates",
        "CC BY 4.0, https://creativecommons.org/licenses/by/4.0/",
        "Name the authors.",
        "https://github.com/amazon-science/spot-diff",
        "https://amazon-visual-anomaly.s3.us-west-2.amazonaws.com/VisA_20220922.tar",
        (
            *("candle", "capsules", "cashew", "chewinggum", "fryum", "macaroni1", "macaroni2"),
            *("pcb1", "pcb2", "pcb3", "pcb4", "pipe_fryum"),
        ),
        LAYOUTS["visa"],
        pinned="2eb8690c803ab37de0324772964100169ec8ba1fa3f7e94291c9ca673f40f362",
    ),
    "btad": Source(
        "BTAD",
        "beanTech srl; University of Udine, AVIRES lab",
        "CC BY-NC-SA 4.0, https://creativecommons.org/licenses/by-nc-sa/4.0/",
        _NC_SA,
        "https://avires.dimi.uniud.it/papers/btad/",
        "https://avires.dimi.uniud.it/papers/btad/btad.zip",
        ("01", "02", "03"),
        LAYOUTS["btad"],
        pinned="461c9387e515bfed41ecaae07c50cf6b10def647b36c9e31d239ab2736b10d2a",
    ),
}


def find_source(name: str) -> Source:
    """Return the source of a data set.

    Raises
    ------
    UserError
        If it is unknown.
    """
    if name.lower() not in SOURCES:
        raise UserError(f"unknown data set '{name}'.{did_you_mean(name, SOURCES)} Known: {', '.join(SOURCES)}.")
    return SOURCES[name.lower()]


def download(
    source: Source, folder: Path, categories: Sequence[str] | None, url: str | None, sha256: str | None, say: Say
) -> list[Path]:
    """Download categories of a data set into a folder, in the MVTec layout, and return their folders.

    Existing categories are left alone, and an existing archive is used. The archive stays until the user removes it.

    Parameters
    ----------
    categories : None for all
    url, sha256 : replace the source's own

    Raises
    ------
    UserError
        If the archive cannot be downloaded, has the wrong hash or lacks a category, if the disk is full, or if another
        process is downloading into the folder.
    Interrupted
        On Ctrl-C; the part downloaded so far is kept.
    """
    chosen = _chosen(source, categories)
    if sha256 is not None and not re.fullmatch("[0-9a-fA-F]{64}", sha256.strip()):
        raise UserError(f"--sha256 {sha256!a:.100} is not a SHA-256: 64 hexadecimal digits are expected.")
    if url is not None and not re.fullmatch(r"https?://[\w.-]+(:\d+)?/[!-~]+", url, re.ASCII):
        raise UserError(f"--url {url!a:.200} is not a web address: https://HOST/FILE is expected.")
    archive = folder / source.url.rsplit("/", maxsplit=1)[-1]
    if missing := [name for name in chosen if not (folder / name).is_dir()]:
        stopped = f"interrupted. What was downloaded is kept beside {archive}: run the same command again to go on."
        with interruptible(stopped), locked([folder], wait=False) as is_ours:
            if not is_ours:
                raise UserError(f"another gaussad download is at work in {folder}: wait for it, or stop it.")
            if not archive.is_file():
                fetch(url or source.url, archive, say, source.page, spare=len(missing) / len(source.categories))
            digest = _verify(archive, source, (sha256 or "").strip().lower(), say)
            _unpack(archive, folder, source, missing)
            if not source.sha256:  # only now: later downloads should not have to equal a damaged archive
                write_whole(_record(archive), lambda file: file.write(f"{digest}  {archive.name}\n".encode()))
    return [folder / name for name in chosen]


def _chosen(source: Source, categories: Sequence[str] | None) -> list[str]:
    for name in categories or ():
        if name not in source.categories:
            near = did_you_mean(name, source.categories)
            raise UserError(
                f"{source.name} has no category '{name!s:.100}'.{near} It has: {', '.join(source.categories)}."
            )
    return list(dict.fromkeys(categories or source.categories))


def _verify(archive: Path, source: Source, pin: str, say: Say) -> str:
    """Compare an archive's SHA-256 with --sha256, the published one or the last download's; return it."""
    digest, record = sha256_of(archive), _record(archive)
    expected, origin = pin or source.sha256, "--sha256 requires" if pin else "its owner publishes"
    if not expected:
        if record.is_file():
            expected = record.read_text("latin-1")[:64]
            origin = f"the last download had (remove {record} if the owner has published a new archive)"
        same = "as" if digest == source.pinned else f"not {source.pinned} as"
        say(
            f"The owner of {archive.name} publishes no hash. Its SHA-256 is {digest}, {same} anomalib expects. It is "
            f"kept in {record}, and later downloads must have the same."
        )
    if expected and digest != expected:
        raise UserError(
            f"{archive} has the SHA-256 {digest}, not {expected} as {origin}. Nothing was extracted: remove it and run "
            "again to download it again, or pass the address of the right one with --url."
        )
    return digest


def _record(archive: Path) -> Path:
    return archive.with_name(f"{archive.name}.sha256")


def _unpack(archive: Path, folder: Path, source: Source, needed: Sequence[str]) -> None:
    """Extract and arrange in a temporary folder, then rename each category: a category's folder is always complete."""
    scratch = folder / f".{archive.name}.extracted"
    shutil.rmtree(scratch, ignore_errors=True)
    try:
        names = extract(archive, scratch, lambda name: source.layout.belongs(name, needed))
        try:
            arranged = source.layout.arrange(scratch, names, needed)
        except (ValueError, csv.Error) as error:
            raise UserError(f"the split in {archive.name} is not a CSV file ({error}).") from None
        found = _put_in_place(scratch, folder, arranged, source.own_masks)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    if missing := [name for name in needed if name not in found]:
        raise UserError(
            f"{archive.name} has no category {', '.join(missing)}; the others are in {folder}. It is not the whole "
            "archive as published: remove it, and pass the address of the right one with --url."
        )


def _put_in_place(scratch: Path, folder: Path, arranged: Mapping[str, str], own_masks: bool) -> set[str]:
    """Move files to where the MVTec layout has them; return the categories that have training images."""
    ready = scratch / ".arranged"
    for name, target in tqdm(arranged.items(), desc="arrange", unit="file", disable=None, dynamic_ncols=True):
        path = ready / target
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            if not own_masks or target.split("/")[1] != MASKS:
                (scratch / name).replace(path)
            elif path.suffix.lower() in SUFFIXES:
                _write_mask(scratch / name, path.with_suffix(".png"))
    categories = {path.parent.parent.name for path in ready.glob("*/train/*")}
    for category in sorted(categories):
        with writing(folder / category):
            (ready / category).rename(folder / category)
    return categories


def _write_mask(source: Path, target: Path) -> None:
    """Write a mask like MVTec AD's: a PNG file, 255 wherever the source is not 0.

    VisA numbers the kinds of defects from 1 on, while gaussad takes a pixel for masked from 128 on.
    """
    import cv2
    import numpy as np

    pixels = cv2.imdecode(np.frombuffer(source.read_bytes() or b"\0", np.uint8), cv2.IMREAD_COLOR)
    if pixels is None:
        raise UserError(f"the mask {target.name} is not an image: the archive is damaged, or not the published one.")
    _, png = cv2.imencode(".png", np.where(pixels.any(axis=2), 255, 0).astype(np.uint8))
    target.write_bytes(png.tobytes())
