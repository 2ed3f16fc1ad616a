"""How a scene of several objects is arranged and painted: who comes together, where each stands, what hides what.

Crowding: a place is only accepted if every object so far keeps at least :data:`MIN_VISIBLE` of its opaque pixels and
:data:`MIN_AREA` of the image; an object that finds no place in :data:`TRIES` attempts is left out (the fewest allowed
are always placed, by drawing the scene again). So no tiny remnants arise.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from cl_vs_mim.core.errors import UserError
from cl_vs_mim.data import exact
from cl_vs_mim.data.compose import Grain, Light, Pose, ambience, depth_of_field, extent, harmonise, lay, warp
from cl_vs_mim.data.kit import KitFile
from cl_vs_mim.data.objects import ground, match_sharpness, place, tilt_limit
from cl_vs_mim.data.pieces import MAX_ENLARGEMENT, Pieces
from cl_vs_mim.data.scenery import GROUNDED, Scenery, draw_rotation
from cl_vs_mim.data.views import View, draw_view

MIN_VISIBLE = 0.65  # of an object's opaque pixels
_FREE = 0.9  # the same in space, where planets do not stand one before the other
MIN_AREA = 0.003  # of the image's area
TRIES = 20
_DRAWS = 300  # of a scene, before giving up
_SCALE_POWER = 0.5  # true lengths are drawn together: 1 m beside 4 m appears as 1 beside 4 ** 0.5
_SIZES = (0.13, 0.6)  # longest side of an object over the image's side
_WIDE = ("land", "road", "sky", "space", "water", "underwater")  # settings where near and far go together
_KINDRED = 4.0  # largest ratio of true lengths where things are seen from near by
_COMPANY = {  # categories that are seen together; anything else only joins when a scene would stay too small
    "tool": {"tool", "household"},
    "household": {"household", "tool", "leisure", "fruit-vegetable"},
    "leisure": {"leisure", "household", "plant-fungus"},
    "fruit-vegetable": {"fruit-vegetable", "sea-animal", "household", "flower"},
    "flower": {"flower", "fruit-vegetable", "small-creature", "plant-fungus", "bird"},
    "small-creature": {"small-creature", "flower", "plant-fungus", "bird", "other-mammal"},
    "sea-animal": {"sea-animal", "fruit-vegetable", "bird"},
    "plant-fungus": {"plant-fungus", "small-creature", "flower", "hoofed-mammal", "other-mammal", "bird"},
    "bird": {"bird", "hoofed-mammal", "other-mammal", "plant-fungus", "small-creature"},
    "hoofed-mammal": {"hoofed-mammal", "other-mammal", "bird", "plant-fungus"},
    "other-mammal": {"other-mammal", "hoofed-mammal", "bird", "plant-fungus", "small-creature"},
    "vehicle": {"vehicle", "other", "plant-fungus", "bird", "household"},
    "planet": {"planet", "other"},
    "other": {"other", "planet", "vehicle", "plant-fungus", "bird"},
}


@dataclass
class Member:
    """One object of a scene."""

    file: KitFile
    pose: Pose
    flies: bool
    depth: float  # larger = nearer to the camera
    colour: np.ndarray  # (size, size, 3) uint8
    alpha: np.ndarray  # (size, size) float32


@dataclass(frozen=True)
class Scene:
    """A composed scene: picture (size, size, 3) uint8 BGR, and weights (1 + objects, size, size), background first."""

    image: np.ndarray
    weights: np.ndarray
    members: list[Member]
    view: View


# ------------------------------------------------------------------------------------------------
# Casting and placing
# ------------------------------------------------------------------------------------------------


def compose_scene(
    rng: np.random.Generator, pieces: Pieces, grain: Grain, split: str, size: int, count: tuple[int, int]
) -> Scene:
    """A scene of ``count`` (fewest, most) objects of one kit split (``train`` or ``test``).

    Raises:
        UserError: the fewest never found a place together.
    """
    for _ in range(_DRAWS):
        number = int(rng.integers(count[0], count[1] + 1))
        view, cast = _cast(rng, pieces, split, size, number, count[0])
        members = _place_all(rng, pieces, view, cast)
        if len(members) >= count[0]:
            return _paint(rng, pieces, grain, view, members)
    raise UserError(f"scenes.objects: {count[0]} objects do not fit into a scene of {size} px; ask for fewer")


def _cast(
    rng: np.random.Generator, pieces: Pieces, split: str, size: int, number: int, fewest: int
) -> tuple[View, list[tuple[KitFile, bool]]]:
    """A view and up to ``number`` different objects that belong in it, each with whether it flies there."""
    scenery = pieces.scenery
    by_category: dict[str, list[KitFile]] = {}
    for file in pieces.kit.select("object", split):
        by_category.setdefault(file.category, []).append(file)
    first = _pick(rng, _pick(rng, list(by_category.values())))
    setting = _pick(rng, scenery.settings_of(first.name, split))
    if setting == "sky":  # things that fly are company for things on the ground
        setting = _pick(rng, [s for s in ("land", "road", "sky") if scenery.offers(split, s)])
    length = scenery.placements[first.name].length_cm
    view = draw_view(rng, pieces, split, setting, size, length, pieces.cutout(first).mean)
    welcome = {"land": ("land", "road"), "road": ("land", "road")}.get(setting, (setting,))

    company = _COMPANY.get(first.category, set(by_category))
    order = _shuffled_by_category(rng, by_category)
    order.sort(key=lambda file: file.category not in company)  # stable: company first, in its random order
    cast: list[tuple[KitFile, bool]] = [(first, _flies(scenery, first, view, welcome))]
    for file in order:
        if len(cast) == number or (len(cast) >= fewest and file.category not in company):
            break
        placement = scenery.placements[file.name]
        stands = any(s in placement.settings for s in welcome)
        flies = _flies(scenery, file, view, welcome)
        alike = setting in _WIDE or 1 / _KINDRED <= placement.length_cm / length <= _KINDRED
        if (stands or flies) and alike and file is not first:
            cast.append((file, flies))
    return view, cast


def _flies(scenery: Scenery, file: KitFile, view: View, welcome: tuple[str, ...]) -> bool:
    """Whether ``file`` is in the air in this view: it cannot stand here, and there is a sky for it."""
    settings = scenery.placements[file.name].settings
    here = view.setting in ("land", "road", "water", "sky") and view.sky >= 0.3
    return here and "sky" in settings and not any(setting in settings for setting in welcome)


def _pick(rng: np.random.Generator, choices: Any) -> Any:
    return choices[int(rng.integers(len(choices)))]


def _shuffled_by_category(rng: np.random.Generator, by_category: dict[str, list[KitFile]]) -> list[KitFile]:
    """All files in random order, the categories taking turns so that large ones do not crowd out small ones."""
    turns = []
    for files in by_category.values():
        order = rng.permutation(len(files))
        turns += [(rank + rng.random(), files[i]) for rank, i in enumerate(order)]
    return [file for _, file in sorted(turns, key=lambda turn: turn[0])]


def _place_all(rng: np.random.Generator, pieces: Pieces, view: View, cast: list[tuple[KitFile, bool]]) -> list[Member]:
    """Find a place for each object in turn; those without one are left out. Sorted from far to near."""
    lengths = [pieces.scenery.placements[file.name].length_cm for file, _ in cast]
    middle = exact.exp(float(exact.log(np.array(lengths)).cumsum()[-1]) / len(lengths))
    base = 0.66 / math.sqrt(max(len(cast), 2))
    share = _FREE if view.setting == "space" else MIN_VISIBLE
    members: list[Member] = []
    for (file, flies), length in zip(cast, lengths, strict=True):
        relative = base * exact.power(length / middle, _SCALE_POWER) * (0.7 if flies else 1.0)
        for _ in range(TRIES):
            member = _try(rng, pieces, view, file, flies, relative)
            if member is not None and _uncrowded([*members, member], share):
                members.append(member)
                break
    return sorted(members, key=lambda member: member.depth)


def _try(
    rng: np.random.Generator, pieces: Pieces, view: View, file: KitFile, flies: bool, relative: float
) -> Member | None:
    """One attempt at a pose for ``file``, or None if it does not fit the frame."""
    size = view.size
    cutout, placement = pieces.cutout(file), pieces.scenery.placements[file.name]
    here = View(view.image, "sky", view.names, view.feet, view.sky, False) if flies else view
    rotation = draw_rotation(rng, bool(rng.integers(2)), tilt_limit(placement, here))
    mirror = bool(placement.mirror and rng.random() < 0.5)
    grounded = here.setting in GROUNDED
    nearness = float(rng.random())  # 0 = as far away as the ground goes, 1 = nearest
    fraction = relative * rng.uniform(0.85, 1.15) * ((0.65 + 0.5 * nearness) if grounded else 1.0)
    fraction = min(max(fraction, _SIZES[0]), _SIZES[1], MAX_ENLARGEMENT * cutout.longest / size)
    scale = fraction * size / cutout.longest
    box = extent(cutout, scale, rotation, mirror)
    if max(box[2] - box[0], box[3] - box[1]) > 0.96 * size:
        return None
    x, y = place(rng, here, box)
    if grounded:
        low, high = view.feet[0] * size, view.feet[1] * size
        y = max(low + nearness * (high - low) - box[3], 0.02 * size - box[1])
    pose = Pose(scale, rotation, mirror, x, y)
    colour, alpha = warp(cutout, pose, size)
    rests = grounded or (placement.upright and not flies)  # its base line says how near it is
    depth = y + box[3] if rests else (-1.0 if flies else float(rng.random()))
    return Member(file, pose, flies, depth, colour, alpha)


def _uncrowded(members: list[Member], share: float) -> bool:
    """Whether at least ``share`` of every object's opaque pixels remains visible, and enough pixels in all."""
    front = np.zeros_like(members[0].alpha, bool)
    for member in sorted(members, key=lambda member: member.depth, reverse=True):
        opaque = member.alpha > 0.5
        visible = int((opaque & ~front).sum())
        if visible < max(share * opaque.sum(), 1.15 * MIN_AREA * opaque.size):
            return False
        front |= opaque
    return True


# ------------------------------------------------------------------------------------------------
# Painting
# ------------------------------------------------------------------------------------------------


def _paint(rng: np.random.Generator, pieces: Pieces, grain: Grain, view: View, members: list[Member]) -> Scene:
    """Far to near, all under one light."""
    size = view.size
    light = Light(
        brightness=float(rng.uniform(0.88, 1.12)),
        warmth=float(rng.uniform(-0.05, 0.05)),
        angle=float(rng.uniform(20, 160)),
        relief=float(rng.uniform(0.0, 0.12)),
    )
    shadow = float(rng.uniform(0.35, 0.65))
    image = view.image
    if view.setting in ("land", "road"):
        standing = [member.depth for member in members if not member.flies]
        focus = min(standing) if standing else view.feet[0] * size
        image = depth_of_field(image, focus, 0.006 * size * float(rng.uniform(0.1, 0.8)))
    backdrop = View(image, view.setting, view.names, view.feet, view.sky, view.flat)
    for member in members:
        cutout, placement = pieces.cutout(member.file), pieces.scenery.placements[member.file.name]
        left, top, right, bottom = extent(cutout, member.pose.scale, member.pose.rotation, member.pose.mirror)
        x, y = member.pose.x, member.pose.y
        box = np.array([x + left, y + top, x + right, y + bottom])
        surroundings = ambience(backdrop, x, y, max(right - left, bottom - top) / 2)
        lit = harmonise(member.colour, cutout, light, surroundings, view.setting, box)
        lit = match_sharpness(lit, backdrop.image, member.alpha)
        shade = None
        if not member.flies:
            image, shade = ground(image, lit, member.alpha, box, view, placement.upright, light, shadow)
        image = lay(image, lit, member.alpha, shade)
    finished = grain.develop(image, rng, float(rng.uniform(0, 0.4)), float(rng.uniform(0.5, 2.5)))
    return Scene(finished, _weights([member.alpha for member in members]), members, view)


def _weights(alphas: list[np.ndarray]) -> np.ndarray:
    """Share of each layer in each pixel, (1 + objects, size, size), background first; sums to 1."""
    remaining = np.ones_like(alphas[0])
    shares = []
    for alpha in reversed(alphas):
        shares.append(alpha * remaining)
        remaining = remaining * (1 - alpha)
    return np.stack([remaining, *reversed(shares)])
