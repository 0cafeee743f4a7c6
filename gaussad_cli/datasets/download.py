"""Data sets from where their owners publish them: resumed where it was interrupted, verified, in the MVTec layout."""

from __future__ import annotations

import csv
import hashlib
import re
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from gaussad_cli.datasets.archive import bytes_bar, extract, write_mask
from gaussad_cli.datasets.fetch import Say, checked_url, fetch
from gaussad_cli.datasets.index import SUFFIXES
from gaussad_cli.datasets.layouts import LAYOUTS, Layout
from gaussad_cli.errors import UserError, did_you_mean, interruptible
from gaussad_cli.files import locked, write_whole, writing


@dataclass(frozen=True)
class Source:
    """Where a data set is published, and under what terms.

    Attributes
    ----------
    page : where the owner says where the archive is now
    sha256 : of the archive; "" where its owner publishes none
    pinned : the SHA-256 that anomalib (github.com/open-edge-platform/anomalib) pins for the same address, where the
        owner publishes none: told to the user, and not insisted on
    own_masks : whether masks are to be written anew to be as MVTec AD's
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
_CHUNK = 1 << 20


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
    """Download a data set and put its categories into a folder, in the MVTec layout; return their folders.

    What is there is not fetched again. The archive stays until the user removes it.

    Parameters
    ----------
    categories : only these; None for all
    url, sha256 : instead of the source's own

    Raises
    ------
    UserError
        If it cannot be fetched, is not the archive that it should be, lacks a category, there is no room, or another
        process is at work in the folder.
    Interrupted
        On Ctrl-C: what was fetched is kept.
    """
    chosen = _chosen(source, categories)
    pin = _checked_hash(sha256)
    address = checked_url(url or source.url)
    archive = folder / source.url.rsplit("/", maxsplit=1)[-1]
    missing = [name for name in chosen if not (folder / name).is_dir()]
    if missing:
        with (
            interruptible(
                f"interrupted. What was fetched is kept beside {archive}: run the same command again to go on."
            ),
            locked([folder], wait=False) as ours,
        ):
            if not ours:
                raise UserError(f"another gaussad download is at work in {folder}: wait for it, or stop it.")
            if not archive.is_file():
                fetch(address, archive, say, source.page, spare=len(missing) / len(source.categories))
            digest = _verify(archive, source, pin, say)
            _unpack(archive, folder, source, missing)
            if not source.sha256:  # only now: a damaged archive is not what the next one should be
                write_whole(_record(archive), lambda file: file.write(f"{digest}  {archive.name}\n".encode()))
    return [folder / name for name in chosen]


def _chosen(source: Source, categories: Sequence[str] | None) -> list[str]:
    for name in categories or ():
        if name not in source.categories:
            near = did_you_mean(name, source.categories)
            raise UserError(
                f"{source.name} has no category '{name!s:.100}'.{near} It has: {', '.join(source.categories)}."
            )
    return list(dict.fromkeys(categories)) if categories else list(source.categories)


def _checked_hash(sha256: str | None) -> str:
    text = (sha256 or "").strip().lower()
    if sha256 is not None and not re.fullmatch("[0-9a-f]{64}", text):
        raise UserError(f"--sha256 {sha256!a:.100} is no SHA-256: wanted are 64 hexadecimal digits.")
    return text


# --- the archive ---


def _verify(archive: Path, source: Source, pin: str, say: Say) -> str:
    """Compare an archive with the pinned or published hash, or else with the one before; return its own."""
    got, record = _digest(archive), _record(archive)
    wanted, origin = pin or source.sha256, "--sha256 pins" if pin else "is published"
    if not wanted:
        with suppress(OSError, ValueError, IndexError):
            wanted, origin = record.read_text("ascii").split()[0], f"the download before had ({record})"
        say(
            f"No hash of {archive.name} is published by its owner. This one's SHA-256 is {got}, "
            f"{'as' if got == source.pinned else f'not {source.pinned} as'} anomalib pins it; kept in {record}, what "
            "is downloaded later must have the same."
        )
    if wanted and got != wanted:
        aside = archive.with_name(f"{archive.name}.wrong")
        with writing(aside):
            archive.replace(aside)
        also = f" Or remove {record}, if you know that it was published anew." if str(record) in origin else ""
        raise UserError(
            f"{archive.name} has the SHA-256 {got}, not {wanted} as {origin}: it was moved to {aside}, and nothing was "
            f"extracted. Run again to download it again, or give the address of the right one with --url.{also}"
        )
    return got


def _record(archive: Path) -> Path:
    return archive.with_name(f"{archive.name}.sha256")


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file, bytes_bar(f"verify {path.name}", path.stat().st_size) as bar:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
                bar.update(len(chunk))
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}.") from None
    return digest.hexdigest()


def _unpack(archive: Path, folder: Path, source: Source, needed: Sequence[str]) -> None:
    """Extract into a temporary folder, arrange there, and rename category by category: what is there is whole."""
    scratch = folder / f".{archive.name}.extracted"
    shutil.rmtree(scratch, ignore_errors=True)
    try:
        names = extract(archive, scratch, lambda name: source.layout.belongs(name, needed))
        try:
            arranged = source.layout.arrange(scratch, names, needed)
        except (ValueError, csv.Error) as error:
            raise UserError(f"the split in {archive.name} is not a list of text ({error}).") from None
        found = _put_in_place(scratch, folder, arranged, source.own_masks)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    if missing := [name for name in needed if name not in found]:
        raise UserError(
            f"{archive.name} has no category {', '.join(missing)}; what else was wanted is in {folder}. It is not the "
            "whole archive as published: remove it, and give the address of the right one with --url."
        )


def _put_in_place(scratch: Path, folder: Path, arranged: Mapping[str, str], own_masks: bool) -> list[str]:
    """Move files to where the MVTec layout has them; return the categories that have images to train with."""
    for name, target in tqdm(arranged.items(), desc="arrange", unit="file", disable=None, dynamic_ncols=True):
        source, path = scratch / name, scratch / ".arranged" / target
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        if own_masks and target.split("/")[1] == "ground_truth":
            if path.suffix.lower() in SUFFIXES:
                write_mask(source, path.with_suffix(".png"))
        else:
            with writing(path):
                source.replace(path)
    categories = sorted(path.parent.parent.name for path in (scratch / ".arranged").glob("*/train/*"))
    for name in dict.fromkeys(categories):
        with writing(folder / name):
            (scratch / ".arranged" / name).rename(folder / name)
    return categories
