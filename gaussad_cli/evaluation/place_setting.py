"""What can be set for the scores of places besides the compression, and its name in the results' column `mode`."""

from __future__ import annotations

import math
from dataclasses import dataclass

from gaussad_cli.errors import UserError, did_you_mean
from gaussad_cli.gaussian.compression import Compression
from gaussad_cli.gaussian.places import PLACES, SMOOTHING, TARGETS, PlaceOptions, Target

CLOSED = "closed"  # stands for the intensity by closed form


@dataclass(frozen=True)
class PlaceSetting:
    """How the Gaussians of places are estimated and their distances smoothed.

    Attributes
    ----------
    target : what a place's covariance is shrunk towards, see :class:`gaussad_cli.gaussian.places.PlaceOptions`
    rho : the intensity; None for the closed form; without effect on the target "padim"
    channels : size of a random subset of the channels; None for all
    smooth : sigma of the Gaussian that smooths heat maps, in places
    """

    target: Target = "image"
    rho: float | None = PLACES.intensity
    channels: int | None = None
    smooth: float = SMOOTHING

    def __str__(self) -> str:
        """Name what is not the default, in a fixed order: "padim channels=100"."""
        words = [
            "" if self.target == "image" else self.target,
            "" if self.rho == PLACES.intensity else f"rho={CLOSED if self.rho is None else _shortest(self.rho)}",
            "" if self.channels is None else f"channels={self.channels}",
            "" if self.smooth == SMOOTHING else f"smooth={_shortest(self.smooth)}",
        ]
        return " ".join(filter(None, words))

    def options(self, compression: Compression) -> PlaceOptions:
        """Return the options of the fit."""
        return PlaceOptions(compression, self.channels, self.target, self.rho)


def read_place_setting(text: str) -> PlaceSetting:
    """Read what a :class:`PlaceSetting` says of itself."""
    values = dict(word.split("=") for word in text.split() if "=" in word)
    return PlaceSetting(
        next((target for target in TARGETS if target in text.split()), "image"),
        _read_rho(values["rho"]) if "rho" in values else PLACES.intensity,
        int(values["channels"]) if "channels" in values else None,
        float(values.get("smooth", SMOOTHING)),
    )


def choose_place_setting(
    rho: str | None, target: str | None, channels: int | None, smooth: float | None
) -> PlaceSetting:
    """Turn the command line's options into a setting; None stands for the default.

    Raises
    ------
    UserError
        If a value is out of range, or two do not go together.
    """
    chosen = next((known for known in TARGETS if known == (target or "image")), None)
    if chosen is None:
        hint = did_you_mean(str(target), TARGETS)
        raise UserError(f"unknown --target '{target}'.{hint} Known: {', '.join(TARGETS)}.")
    if rho is not None and chosen == "padim":
        raise UserError("--target padim adds 0.01 to every variance in place of shrinkage: leave out --rho.")
    try:
        intensity = PLACES.intensity if rho is None else _read_rho(rho)
    except ValueError:
        raise UserError(f"--rho {rho} is neither a number from 0 to 1 nor '{CLOSED}', the closed form.") from None
    if channels is not None and channels < 1:
        raise UserError(f"--channels {channels}: at least one channel is needed.")
    if smooth is not None and not 0.0 <= smooth < math.inf:
        raise UserError(f"--smooth {smooth:g}: the sigma of a Gaussian is a number of places, 0 for none.")
    return PlaceSetting(chosen, intensity, channels, SMOOTHING if smooth is None else smooth)


def _read_rho(text: str) -> float | None:
    if text == CLOSED:
        return None
    if not 0.0 <= float(text) <= 1.0:
        raise ValueError(f"{text} is not between 0 and 1")
    return float(text)


def _shortest(value: float) -> str:
    """Write a number so that it is read back to the bit."""
    return repr(float(value)).removesuffix(".0")
