"""An encoder that was trained elsewhere, or before: checked, and written as one of the study's own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from cl_vs_mim.config import Study
from cl_vs_mim.config.encoders import model_and_seed, stated_recipe
from cl_vs_mim.core.errors import UserError, warn
from cl_vs_mim.core.files import sha256_file
from cl_vs_mim.encoder.checkpoints import load_decoder, load_encoder, read_header, require_spec, save_encoder
from cl_vs_mim.encoder.checkpoints.official import containers

NATIVE = "native"


def import_encoder(study: Study, run: str, file: Path, output: Path) -> None:
    """Read the encoder of a model that the study takes from a checkpoint, and write it in our format.

    Its weights stay what they are; a file of half precision is written in float32 with the same values. What the file
    says of its own making goes along as ``origin``.

    Args:
        study: which has the model.
        run: stem of the encoder, such as ``moco_v3_seed0``.
        file: the checkpoint.
        output: the encoder's file, ``.safetensors``.

    Raises:
        UserError: the study trains this model itself, or the file is not of its architecture, method, seed or recipe.
    """
    name, seed = model_and_seed(study, run)
    model = study.models.get(name)
    if model is None or model.checkpoint is None:
        raise UserError(f"study {study.study!r} takes {run} from no checkpoint")
    architecture = study.architectures[model.architecture]
    format_ = model.checkpoint.format
    given = {} if format_ == NATIVE else {
        "img_size": architecture.image_size,
        "patch_size": architecture.patch_size,
        "num_heads": architecture.heads,
        "layer_norm_eps": architecture.layer_norm_eps,
    }  # fmt: skip
    encoder = load_encoder(file, format_, **given)  # type: ignore[arg-type]
    require_spec(file, encoder, architecture.spec(), model.architecture)
    origin = read_header(file)[1] if format_ == NATIVE else {}
    require_same_making(file, study, name, seed, origin)
    published = containers().get(model.method)
    if format_ != NATIVE and published is not None and published.family != encoder.spec.family:
        warn(
            f"{file} is an encoder of family {encoder.spec.family!r}, and is labelled {model.method!r}, whose "
            f"published ones are of family {published.family!r}; nothing in the file says how it was trained"
        )
    decoder = load_decoder(file, format_, encoder) if model.paints else None
    metadata = {"model": name, "method": model.method, "seed": seed, "study": study.study}
    content = {"file": file.name, "sha256": sha256_file(file), "format": format_}
    save_encoder(output, encoder, metadata | {"origin": content | origin}, decoder=decoder)


def require_same_making(file: Path, study: Study, name: str, seed: int, origin: Mapping[str, Any]) -> None:
    """Refuse a file that says of itself that it was made otherwise than the study says.

    Only what both of them state is compared: an older file says nothing of options that came later.

    Raises:
        UserError: method, seed or a value of the recipe differ; all differences are listed.
    """
    model = study.models[name]
    wanted = dict(_flat({"method": model.method, "seed": seed, "recipe": stated_recipe(study, name)}))
    first = origin
    while isinstance(first.get("origin"), Mapping):  # imported before: what it was when it was trained
        first = first["origin"]
    stated = dict(_flat({**first, **{key: origin[key] for key in ("method", "seed") if key in origin}}))
    if origin and "recipe" not in first and wanted.keys() - {"method", "seed"}:
        warn(f"{file} does not say by which recipe it was trained: it is taken for that of {name} in {study.study!r}")
    differences = [
        f"{key}: {stated[key]!r} in the file, {value!r} in the study"
        for key, value in wanted.items()
        if key in stated and stated[key] != value
    ]
    if differences:
        raise UserError(f"{file} is not what study {study.study!r} says of {name}:\n  " + "\n  ".join(differences))


def _flat(node: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    """Values by their dotted place; lists are values."""
    if isinstance(node, Mapping):
        for key, value in node.items():
            yield from _flat(value, f"{place}.{key}" if place else str(key))
    else:
        yield place, node
