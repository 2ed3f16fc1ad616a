"""A contact sheet: what the composed images look like, at 96 and 224 px.

Composites are made on the user's machine because pictures made from files under different licences can in general
not be handed on together. ``--shippable`` makes the exception: it uses only kit files whose licences can be met at
once by giving the whole sheet under GPL-3.0, namely those under GPL-2.0-or-later (taken as GPL-3.0), GPL-3.0-only,
GPL-3.0-or-later, LGPL-3.0-only (section 2b allows the GPL instead), and those that the GPL may absorb: public domain,
CC0, MIT, Apache-2.0. No Creative Commons attribution or share-alike file is used, although CC-BY-SA-4.0 would allow
it in one direction: the rule stays short. The sheet's source, in the sense of the GPL, is the kit and this package.

``<output stem>_sources.md`` lists every file that went into the sheet, with author and licence.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np

from cl_vs_mim.config import CueConflictImages, ObjectImages
from cl_vs_mim.core.errors import UserError
from cl_vs_mim.core.files import atomic_path, clear_os_errors, write_text
from cl_vs_mim.data.arrange import compose_scene
from cl_vs_mim.data.compose import Grain
from cl_vs_mim.data.cue_conflict import CueConflictRecipe
from cl_vs_mim.data.kit import Kit, KitFile
from cl_vs_mim.data.objects import compose_single
from cl_vs_mim.data.pieces import Pieces
from cl_vs_mim.data.scenery import Scenery

SHIPPABLE = (
    "GPL-2.0-or-later",
    "GPL-3.0-only",
    "GPL-3.0-or-later",
    "LGPL-3.0-only",
    "LicenseRef-public-domain",
    "CC0-1.0",
    "MIT",
    "Apache-2.0",
)
_WIDTH = 1344  # px: 14 pictures of 96, or 6 of 224
_SMALL, _LARGE = 96, 224  # px
_GAP, _CAPTION = 2, 22  # px
_DATASET = 4  # in the seed of every image

# ------------------------------------------------------------------------------------------------
# The sheet
# ------------------------------------------------------------------------------------------------


class Sheet:
    """Pictures in rows under captions, and the kit files they are made of."""

    def __init__(self, kit: Kit, seed: int) -> None:
        self.kit = kit
        self.seed = seed
        self.pieces = Pieces(kit, Scenery(kit))
        self.grain = Grain()
        self.used: set[KitFile] = set()
        self._strips: list[np.ndarray] = []
        self._grounds = {f.name: f for kind in ("background", "texture") for f in kit.select(kind)}
        self._objects = {f.name: f for f in kit.select("object")}

    def picture(self) -> np.ndarray:
        """(height, width, 3) uint8 BGR."""
        return np.concatenate(self._strips, 0)

    def singles(self, caption: str, size: int, rows: int, split: str, section: int) -> None:
        """Single objects of one kit split, the categories taking turns."""
        files = _by_turns(self.kit.select("object", split), np.random.default_rng([self.seed, _DATASET, section]))
        settings = ObjectImages(image_size=size, train_per_identity=1, val_per_identity=1, heldout_per_object=1)
        images = []
        for index in range(rows * (_WIDTH // size)):
            rng = np.random.default_rng([self.seed, _DATASET, section, index])
            file = files[index % len(files)]
            single = compose_single(rng, self.pieces, self.grain, file, split, settings, held_out=split == "test")
            self.used.add(file)
            self._note_grounds(single.row["background"].split("+"))
            images.append(single.image)
        self._add(caption, images, size)

    def scenes(self, caption: str, size: int, rows: int, split: str, section: int) -> None:
        """Scenes of one kit split."""
        images = []
        for index in range(rows * (_WIDTH // size)):
            rng = np.random.default_rng([self.seed, _DATASET, section, index])
            scene = compose_scene(rng, self.pieces, self.grain, split, size, (2, 6))
            self.used.update(member.file for member in scene.members)
            self._note_grounds(scene.view.names)
            images.append(scene.image)
        self._add(caption, images, size)

    def cue_conflicts(self, caption: str, size: int, rows: int) -> None:
        """Cue-conflict images."""
        count = rows * (_WIDTH // size)
        recipe = CueConflictRecipe(self.kit, CueConflictImages(image_size=size, images=count), self.seed)
        images = []
        for index in range(count):
            rendered = recipe.render(index)
            row = rendered.row
            (content,) = rendered.files.values()
            images.append(cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR))
            self.used.add(self._objects[row["shape_identity"]])
            surface = self._grounds if row["material"] else self._objects
            self.used.add(surface[row["texture_identity"]])
            self._note_grounds([row["background"]] if row["background"] else [])
        self._add(caption, images, size)

    def _note_grounds(self, names: Iterable[str]) -> None:
        self.used.update(self._grounds[name] for name in names)

    def _add(self, caption: str, images: list[np.ndarray], size: int) -> None:
        """A caption strip and the images below it, ``_WIDTH`` px wide."""
        strip = np.full((_CAPTION, _WIDTH, 3), 255, np.uint8)
        font = cv2.FONT_HERSHEY_SIMPLEX
        cv2.putText(strip, caption, (2, _CAPTION - 7), font, 0.48, (40, 40, 40), 1, cv2.LINE_AA)
        self._strips.append(strip)
        columns = _WIDTH // size
        for start in range(0, len(images), columns):
            row = np.full((size, _WIDTH, 3), 255, np.uint8)
            for column, image in enumerate(images[start : start + columns]):
                row[:-_GAP, column * size : (column + 1) * size - _GAP] = image[:-_GAP, :-_GAP]
            self._strips.append(row)


def _by_turns(files: tuple[KitFile, ...], rng: np.random.Generator) -> list[KitFile]:
    """Random order in which every category comes up as often as it can."""
    groups: dict[str, list[KitFile]] = {}
    for file in files:
        groups.setdefault(file.category, []).append(file)
    turns = []
    for group in groups.values():
        order = rng.permutation(len(group))
        turns += [(rank + rng.random(), group[i]) for rank, i in enumerate(order)]
    return [file for _, file in sorted(turns, key=lambda turn: turn[0])]


def sources(sheet: Path, used: set[KitFile], shippable: bool) -> str:
    """Markdown that lists the files of a sheet."""
    lines = [f"# Sources of `{sheet.name}`", ""]
    if shippable:
        lines += [
            "The sheet is a set of pictures composed from the image kit of this repository (`data/kit/`) by",
            "`cl-vs-mim contact-sheet --shippable`. As a whole it is under **GPL-3.0**: only files whose licences",
            "allow that were used (public domain, CC0, MIT, Apache-2.0, GPL-2.0-or-later, LGPL-3.0-only, GPL-3.0).",
            "Its source in the sense of that licence is the kit and this package; where each file comes from is said",
            "in `data/kit/SOURCES.md` and `data/kit/manifest.csv`.",
            "",
        ]
    lines += ["| file | author | licence | from |", "| --- | --- | --- | --- |"]
    for file in sorted(used, key=lambda file: file.path):
        author = file.author.replace("|", "/").replace("\n", " ") or "not named"
        lines.append(f"| `{file.path}` | {author} | {file.licence} | {file.source_package} |")
    return "\n".join(lines) + "\n"


def write_sheet(kit_folder: Path, output: Path, seed: int = 0, shippable: bool = False) -> None:
    """Write the sheet and, beside it, the list of the files that it was made from.

    Raises:
        UserError: another suffix than .jpg and .png, a damaged kit, or a place that cannot be written.
    """
    suffix = output.suffix.lower()
    if suffix not in (".jpg", ".png"):
        raise UserError(f"--output {output}: should end in .jpg or .png")
    kit = Kit.open(kit_folder)
    if shippable:
        kit = kit.subset(lambda file: file.licence in SHIPPABLE)
    sheet = Sheet(kit, seed)
    sheet.singles("single objects, 96 px: train objects on train backgrounds", _SMALL, 4, "train", 0)
    sheet.singles("single objects, 96 px: held-out objects on held-out backgrounds", _SMALL, 2, "test", 1)
    sheet.singles("single objects, 224 px", _LARGE, 2, "train", 2)
    sheet.scenes("scenes of 2 to 6 objects, 224 px", _LARGE, 2, "train", 3)
    sheet.cue_conflicts("cue conflicts, 224 px: shape of one category, surface of another or of a material", _LARGE, 1)
    done, content = cv2.imencode(suffix, sheet.picture(), [cv2.IMWRITE_JPEG_QUALITY, 84] if suffix == ".jpg" else [])
    if not done:
        raise RuntimeError("encoding failed")
    with clear_os_errors(output), atomic_path(output) as temporary:
        temporary.write_bytes(content.tobytes())
    listing = output.with_name(output.stem + "_sources.md")
    write_text(listing, sources(output, sheet.used, shippable))
    print(f"{output}: {len(content) // 1024} kB, {len(sheet.used)} kit files, listed in {listing}")
