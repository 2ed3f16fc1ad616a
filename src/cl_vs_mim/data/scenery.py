"""What may stand where: the kit's two tables of naturalness, and the interval sets that keep poses apart.

``placement.csv`` says of every object in which settings it is believable, whether it has an up side, how long it is
in reality (cm), how far it may be turned (degrees) and whether it may be mirrored (lettering may not).
``scenery.csv`` says of every background and texture which settings it offers, where its sky ends and where its ground
begins (fractions of its height from the top). Both were set by hand, by looking.

Settings: ``land`` (a ground seen from the side), ``road`` (one that is open and firm), ``sky``, ``space`` (a night
made from a sky), ``water`` (a surface that carries boats), ``underwater``, ``closeup`` (nature from near by),
``tabletop`` (a surface seen from above) and ``stage`` (a floor in perspective before a wall or an out-of-focus view,
built from a ``floor`` and a ``wall`` or view).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pandas import DataFrame

from cl_vs_mim.core.errors import UserError
from cl_vs_mim.core.files import sha256_file
from cl_vs_mim.core.tables import read_text_table
from cl_vs_mim.data.kit import Kit, KitFile

SETTINGS = ("land", "road", "sky", "space", "water", "underwater", "closeup", "tabletop", "stage")
GROUNDED = ("land", "road", "water", "stage")  # objects rest on a base line
_PARTS = ("floor", "wall")

# ------------------------------------------------------------------------------------------------
# Tables
# ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Placement:
    """A row of ``placement.csv``."""

    name: str
    settings: tuple[str, ...]
    upright: bool
    length_cm: float  # longest side in reality
    tilt: float  # degrees either way where nothing holds the object upright
    mirror: bool


@dataclass(frozen=True)
class Backdrop:
    """A background or texture with its row of ``scenery.csv``."""

    file: KitFile
    settings: tuple[str, ...]
    sky_bottom: float  # fraction of the height, from the top; 0 = no sky
    ground_top: float  # fraction of the height, from the top; 1 = no ground


class Scenery:
    """Both tables, joined to a kit and looked up by split and setting.

    Raises:
        UserError: a table is missing, misses a file of the kit, or has a setting that does not exist.
    """

    def __init__(self, kit: Kit) -> None:
        self.kit = kit
        self.sha256 = {name: sha256_file(_existing(kit.root / name)) for name in ("placement.csv", "scenery.csv")}
        self.placements = self._read_placements()
        self._backdrops = self._read_backdrops()
        self._by_setting: dict[tuple[str, str], list[Backdrop]] = {}
        for backdrop in self._backdrops.values():
            for setting in backdrop.settings:
                self._by_setting.setdefault((backdrop.file.split, setting), []).append(backdrop)

    def backdrops(self, split: str, setting: str) -> list[Backdrop]:
        """Backgrounds and textures of one split that offer ``setting`` (or are a ``floor`` or ``wall``)."""
        return self._by_setting.get((split, setting), [])

    def settings_of(self, name: str, split: str) -> tuple[str, ...]:
        """Settings in which object ``name`` is believable and for which the split has backgrounds."""
        settings = tuple(s for s in self.placements[name].settings if self.offers(split, s))
        if not settings:
            raise UserError(
                f"image kit: no {split} background offers a setting for {name!r} "
                f"({' '.join(self.placements[name].settings)}); add one in {self.kit.root / 'placement.csv'}"
            )
        return settings

    def offers(self, split: str, setting: str) -> bool:
        """Whether backgrounds of ``split`` can show ``setting``."""
        return bool(self.backdrops(split, "floor" if setting == "stage" else setting))

    def _read_placements(self) -> dict[str, Placement]:
        path = self.kit.root / "placement.csv"
        columns = ["name", "settings", "upright", "length_cm", "tilt_degrees", "mirror"]
        placements = {}
        for row in _read(path, columns).itertuples(index=False):
            settings = _settings(row.settings, SETTINGS, path, row.name)
            try:
                placements[row.name] = Placement(
                    row.name,
                    settings,
                    bool(int(row.upright)),
                    _number(row.length_cm),
                    _number(row.tilt_degrees),
                    bool(int(row.mirror)),
                )
            except ValueError as error:
                raise UserError(f"image kit: {path}, row {row.name!r}: {error}") from error
        for file in self.kit.select("object"):
            if file.name not in placements:
                raise UserError(f"image kit: {path} has no row for the object {file.name!r}; add one")
        return placements

    def _read_backdrops(self) -> dict[str, Backdrop]:
        path = self.kit.root / "scenery.csv"
        rows = {row.path: row for row in _read(path, ["path", "settings", "sky_bottom", "ground_top"]).itertuples()}
        backdrops = {}
        for file in self.kit.select("background") + self.kit.select("texture"):
            if file.path not in rows:
                raise UserError(f"image kit: {path} has no row for {file.path!r}; add one")
            row = rows[file.path]
            settings = _settings(row.settings, SETTINGS + _PARTS, path, file.path)
            try:
                backdrops[file.path] = Backdrop(file, settings, _number(row.sky_bottom), _number(row.ground_top))
            except ValueError as error:
                raise UserError(f"image kit: {path}, row {file.path!r}: {error}") from error
        return backdrops


def _existing(path: Path) -> Path:
    if not path.exists():
        raise UserError(f"image kit: {path} does not exist; restore it from the repository")
    return path


def _read(path: Path, columns: list[str]) -> DataFrame:
    return read_text_table(_existing(path), columns, "restore it from the repository", "image kit:")


def _number(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text!r} is no finite number")
    return number


def _settings(text: str, known: tuple[str, ...], path: Path, row: str) -> tuple[str, ...]:
    for word in text.split():
        if word not in known:
            raise UserError(f"image kit: {path}, row {row!r}: unknown setting {word!r}; valid: {', '.join(known)}")
    return tuple(text.split())


# ------------------------------------------------------------------------------------------------
# Disjoint interval sets
# ------------------------------------------------------------------------------------------------


class Comb:
    """Interleaved intervals: cells alternate between training and held-out, with a guard band between neighbours.

    A value drawn for training can never equal, nor come closer than the guard band to, a held-out one, and both
    sets cover the whole range. Cell i between ``edges[i]`` and ``edges[i + 1]`` belongs to training when i is even.

    Args:
        edges: increasing cell borders, in the unit of the parameter.
        guard: share of a cell's width left free at both of its ends.
    """

    def __init__(self, edges: tuple[float, ...], guard: float = 0.08) -> None:
        borders = self.edges = np.asarray(edges, float)
        width = np.diff(borders)
        lows, highs = borders[:-1] + guard * width, borders[1:] - guard * width
        cells = list(zip(lows.tolist(), highs.tolist(), strict=True))
        self._cells = {False: cells[0::2], True: cells[1::2]}  # (low, high) without the guard bands

    @classmethod
    def regular(cls, low: float, high: float, step: float) -> Comb:
        """Cells of equal width ``step`` that cover [low, high]."""
        count = max(2, int(np.ceil((high - low) / step - 1e-9)))
        return cls(tuple(low + step * i for i in range(count + 1)))

    def draw(self, rng: np.random.Generator, held_out: bool, low: float = -np.inf, high: float = np.inf) -> float:
        """Uniform over this set's intervals cut to [low, high].

        Raises:
            ValueError: none of the set's intervals reaches into [low, high].
        """
        cut = [(max(a, low), min(b, high)) for a, b in self._cells[bool(held_out)] if a < high and b > low]
        if not cut:
            raise ValueError(f"no interval between {low} and {high}")
        whole = 0.0
        for a, b in cut:  # not sum(), which Python 3.12 rounds otherwise than 3.11
            whole += b - a
        position = float(rng.random()) * whole
        for a, b in cut:
            if position < b - a:
                return a + position
            position -= b - a
        return cut[-1][1]  # rounding

    def is_held_out(self, values: np.ndarray) -> np.ndarray:
        """True where a drawn value belongs to the held-out set; shape of ``values``."""
        return (np.searchsorted(self.edges, np.asarray(values, float), side="right") - 1) % 2 == 1


# Degrees either way. Narrow near upright, where a small turn already shows; wide where only the rough direction does.
ROTATION = Comb((0, 1.2, 2.4, 4, 6, 9, 13, 18, 26, 38, 55, 80, 110, 145, 180))
GROUND_TILT = 5.0  # degrees either way for whatever stands


def draw_rotation(rng: np.random.Generator, held_out: bool, limit: float) -> float:
    """Rotation in degrees, counter-clockwise, of either sign, with its size from :data:`ROTATION`."""
    return ROTATION.draw(rng, held_out, 0.0, max(limit, 3.0)) * (1 if rng.random() < 0.5 else -1)
