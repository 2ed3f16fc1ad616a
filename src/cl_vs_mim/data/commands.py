"""Commands of the data sets: compose them from the image kit, adopt those on the disk, check them, look at them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from cl_vs_mim.config import FolderData, KitData, Study, load_study
from cl_vs_mim.core.commands import Command
from cl_vs_mim.core.errors import UserError

DECIDES_NO_RESULT = True

DatasetName = Literal["objects", "scenes", "cue_conflict"]

# ------------------------------------------------------------------------------------------------
# What the commands do
# ------------------------------------------------------------------------------------------------


def compose(*, config: Path, dataset: DatasetName, output: Path, workers: int = 2, quiet: bool = False) -> None:
    """Compose one data set of a study from the image kit.

    It is whole or absent: `manifest.json` appears last, together with everything else. A run that was killed goes on
    where it stopped, and the images do not depend on the number of workers.

    Example:
        cl-vs-mim compose --config config/smoke.yaml --dataset objects \\
            --output results/smoke/data/objects

    Args:
        config: the study's YAML, such as config/smoke.yaml.
        dataset: one of its data sets.
        output: folder of the data set.
        workers: processes.
        quiet: no progress bar.

    Raises:
        UserError: the study composes nothing, the kit is damaged, or the folder cannot be written.
    """
    from cl_vs_mim.data.build import recipe_of
    from cl_vs_mim.data.writer import build

    data = load_study(config).data
    if not isinstance(data, KitData):
        raise UserError(f"{config} reads its data sets where they are; use: cl-vs-mim adopt")
    if workers < 1:
        raise UserError(f"--workers {workers}: at least one is needed")
    manifest = build(recipe_of(data, dataset), output, workers, quiet=quiet)
    print(f"{output}: {manifest['images']} images, data_hash {manifest['data_hash'][:12]}")


def adopt(*, config: Path, dataset: DatasetName, output: Path) -> None:
    """Link a data set that lies elsewhere on the disk into the study's results.

    Every later step finds it where a composed one would be. Its files are only read; layout and number of images are
    checked first, and `manifest.json` is written last.

    Example:
        cl-vs-mim adopt --config config/paper.yaml --dataset scenes \\
            --output results/paper/data/scenes

    Args:
        config: the study's YAML; `data` in it names the folders.
        dataset: one of its data sets.
        output: folder in the study's results.

    Raises:
        UserError: the study composes its data sets, a folder does not exist, or the data set is not whole.
    """
    from cl_vs_mim.data import checks

    data = load_study(config).data
    if not isinstance(data, FolderData):
        raise UserError(f"{config} composes its data sets; use: cl-vs-mim compose")
    counts = checks.adopt(data, dataset, output)
    print(f"{output}: {sum(counts.values())} images linked")


def check(*, config: Path, dataset: DatasetName, data: Path, output: Path) -> None:
    """Check that a data set is whole, before anything is trained on it.

    Layout (ImageFolder, COCO, ADE20K), the number of images of each part, and checksums: of every file of a composed
    data set, and of the files that the study names (`data.checksums`) for a data set of others.

    Example:
        cl-vs-mim check --config config/smoke.yaml --dataset scenes \\
            --data results/smoke/data/scenes --output results/smoke/checks/scenes.json

    Args:
        config: the study's YAML.
        dataset: one of its data sets.
        data: its folder in the study's results.
        output: JSON file that says what was checked.

    Raises:
        UserError: something is missing, changed or damaged; the message names it.
    """
    from cl_vs_mim.core.files import write_json
    from cl_vs_mim.data import checks

    write_json(output, checks.check(load_study(config).data, dataset, data))


def contact_sheet(*, config: Path, output: Path, seed: int = 0, shippable: bool = False) -> None:
    """Draw a sheet of composed images: what the data sets look like at 96 and 224 pixels.

    `<output>_sources.md` beside it lists every file of the kit that went into it, with author and licence.

    Example:
        cl-vs-mim contact-sheet --config config/smoke.yaml --shippable \\
            --output docs/images/contact_sheet.jpg

    Args:
        config: the study whose image kit is used.
        output: picture to write, .jpg or .png.
        seed: another seed draws other images.
        shippable: use only files whose licences allow handing the sheet on.

    Raises:
        UserError: the study has no kit, the kit is damaged, or the file cannot be written.
    """
    from cl_vs_mim.data.contact_sheet import write_sheet

    data = load_study(config).data
    if not isinstance(data, KitData):
        raise UserError(f"{config} reads its data sets where they are; there is no kit to draw from")
    write_sheet(data.kit, output, seed, shippable)


# ------------------------------------------------------------------------------------------------
# What decides their results
# ------------------------------------------------------------------------------------------------


def images_decided(study: Study, dataset: str) -> dict[str, Any]:
    """What decides the content of one data set, and nothing of the others.

    The files of the kit and of the folders on the disk are not settings: they enter by their hashes.
    """
    data = study.data
    if isinstance(data, KitData):
        images = getattr(data, dataset).model_dump(mode="json")
        return {"kit": data.kit.as_posix(), "seed": data.seed, "images": images}
    places = {"objects": [data.objects], "scenes": [data.coco, data.ade20k], "cue_conflict": [data.stylized]}
    return {"folders": [place.as_posix() for place in places[dataset]]}


def _adoption_decided(study: Study, dataset: str) -> dict[str, Any]:
    return {**images_decided(study, dataset), **_check_decided(study, dataset)}


def _check_decided(study: Study, dataset: str) -> dict[str, Any]:
    if not isinstance(study.data, FolderData):
        return {}  # the manifest of a composed data set says what should be there
    counts = {part: count for part, count in study.data.counts.items() if part.split("/")[0] in _PARTS[dataset]}
    return {"counts": counts} | ({"checksums": study.data.checksums} if dataset == "objects" else {})


_PARTS = {"objects": ("objects",), "scenes": ("coco", "ade20k"), "cue_conflict": ("stylized",)}


_CHECKS = ("cl_vs_mim.data.checks",)


def _composing_code(study: Study, dataset: str) -> tuple[str, ...]:
    return f"cl_vs_mim.data.{dataset}", "cl_vs_mim.data.writer"


def _kit(study: Study, sheet: str) -> dict[str, Any]:
    assert isinstance(study.data, KitData), "a contact sheet shows images that are composed"
    return {"kit": study.data.kit.as_posix()}


COMMANDS = (
    Command("compose", compose, images_decided, _composing_code),
    Command("adopt", adopt, _adoption_decided, lambda study, dataset: _CHECKS),
    Command("check", check, _check_decided, lambda study, dataset: _CHECKS),
    Command("contact-sheet", contact_sheet, _kit, lambda study, sheet: ("cl_vs_mim.data.contact_sheet",)),
)
