"""An encoder that was trained elsewhere, or before: checked, and written as one of the study's own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from cl_vs_mim.config import Architecture, Study
from cl_vs_mim.config.encoders import model_and_seed, stated_recipe
from cl_vs_mim.core.errors import UserError, warn
from cl_vs_mim.core.files import sha256_file
from cl_vs_mim.encoder.checkpoints import load_decoder, load_encoder, read_header, require_spec, save_encoder
from cl_vs_mim.encoder.checkpoints.containers import containers
from cl_vs_mim.encoder.checkpoints.timm_files import fetched, load_timm, require_own
from cl_vs_mim.encoder.model import Encoder

NATIVE = "native"


def import_encoder(study: Study, run: str, file: Path | None, output: Path) -> None:
    """Read the encoder of a model that the study takes from a file or from timm's hub, and write it in our format.

    Its weights stay what they are; a file of half precision is written in float32 with the same values. What the file
    says of its own making goes along as ``origin``.

    Args:
        study: which has the model.
        run: stem of the encoder, such as ``moco_v3_seed0``.
        file: the checkpoint; None: the hub's, where the study says ``timm: {pretrained: true}``.
        output: the encoder's file, ``.safetensors``.

    Raises:
        UserError: the study trains this model itself, or the file is not of its architecture, method, seed or recipe.
    """
    name, seed = model_and_seed(study, run)
    model = study.models.get(name)
    if model is None or not model.taken:
        raise UserError(f"study {study.study!r} takes {run} from no checkpoint")
    architecture = study.architectures[model.architecture]
    metadata = {"model": name, "method": model.method, "seed": seed, "study": study.study}
    if model.timm is not None:
        if architecture.family != "timm_vit":
            raise UserError(f"models.{name}.timm: architecture {model.architecture!r} should be of family timm_vit")
        spec, tag = architecture.spec(), model.timm.tag
        require_own(spec, tag)  # before anything is fetched
        file = fetched(tag) if file is None else file
        encoder = load_timm(file, spec, tag)
        content = {"file": file.name, "sha256": sha256_file(file), "timm": tag}
        save_encoder(output, encoder, metadata | {"origin": content})
        return
    assert model.checkpoint is not None
    if file is None:
        raise UserError(f"{run} is taken from a file; give it with --checkpoint")
    format_ = model.checkpoint.format
    encoder = _opened(file, format_, architecture)
    require_spec(file, encoder, architecture.spec(), model.architecture)
    origin = read_header(file)[1] if format_ == NATIVE else {}
    require_same_making(file, study, name, seed, origin)
    published = containers().get(model.method)
    if format_ != NATIVE and published is not None and published.family != encoder.spec.family:
        warn(
            f"{file} is an encoder of family {encoder.spec.family!r}, and is labelled {model.method!r}, whose "
            f"published ones are of family {published.family!r}; nothing in the file says how it was trained"
        )
    decoder = None
    if model.paints and model.objective is not None:
        stated = {} if format_ == NATIVE else model.objective.of_decoder()
        decoder = load_decoder(file, format_, encoder, **stated)
    content = {"file": file.name, "sha256": sha256_file(file), "format": format_}
    save_encoder(output, encoder, metadata | {"origin": content | origin}, decoder=decoder)


def _opened(file: Path, format_: str, architecture: Architecture) -> Encoder:
    """The encoder of a file, with what its tensors do not tell as the architecture has it."""
    if format_ == NATIVE:
        return load_encoder(file, NATIVE)
    stated = architecture.spec()
    encoder = load_encoder(
        file,
        format_,
        img_size=stated.image_size,
        patch_size=stated.patch_size,
        num_heads=stated.heads,
        layer_norm_eps=stated.layer_norm_eps,
    )
    scaled = stated.layer_scale if encoder.spec.layer_scale is not None else None  # where LayerScale began
    encoder.spec = replace(
        encoder.spec,
        layer_scale=encoder.spec.layer_scale if scaled is None else scaled,
        pixel_mean=stated.pixel_mean,
        pixel_std=stated.pixel_std,
    )
    return encoder


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
