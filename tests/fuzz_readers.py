"""The five readers of files of others, each with the files that it is attacked with and what is done with one."""

from __future__ import annotations

import io
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
import yaml
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from PIL import Image
from safetensors.torch import save

from cl_vs_mim.audit.claims import load_claims
from cl_vs_mim.config import load_study
from cl_vs_mim.core.pictures import open_rgb, upright_size
from cl_vs_mim.core.tables import read_table, read_text_table
from cl_vs_mim.data.ade20k import open_mask
from cl_vs_mim.data.coco import check_split
from cl_vs_mim.data.images import decode
from cl_vs_mim.data.kit import COLUMNS, read_manifest
from cl_vs_mim.encoder.checkpoints import load_decoder, load_encoder, read_header, save_encoder
from cl_vs_mim.encoder.checkpoints.timm_files import read_timm
from cl_vs_mim.encoder.decoders import DecoderSpec, build_decoder
from cl_vs_mim.encoder.model import EncoderSpec, build_encoder
from fuzz_changes import altered, damaged, odd_values
from random_checkpoints import Shape, container, encoder_state

ROOT = Path(__file__).resolve().parent.parent


class Reader(NamedTuple):
    """How files for it are made, and what reads them; ``read`` gets the path and something to choose by."""

    files: SearchStrategy[bytes]
    suffix: str
    read: Callable[[Path, int], None]


SHAPE = Shape(image=8, patch=4, width=8, depth=2, heads=2, hidden=8)
TIMM = EncoderSpec("timm_vit", 8, 4, 8, 2, 2, positions="variant", variant="vit_small_patch16_224")
SIZES = {"img_size": 8, "patch_size": 4, "num_heads": 2}
FAMILIES = ("moco_v3", "simmim", "mae", "dino", "beit", "timm", "ibot", "openmmlab", "openmmlab_beit")


def _torch_file(content: Any, archive: bool = True) -> bytes:
    stream = io.BytesIO()
    torch.save(content, stream, _use_new_zipfile_serialization=archive)
    return stream.getvalue()


def _odd_tensor(tensor: torch.Tensor, kind: int) -> Any:
    makers: list[Callable[[], Any]] = [
        lambda: tensor.double() * 1e300,
        lambda: tensor.to(torch.complex64),
        lambda: tensor > 0,
        lambda: tensor.to(torch.int8),
        lambda: tensor.to(torch.float8_e5m2),
        lambda: tensor.to_sparse(),
        lambda: tensor.to("meta"),
        lambda: tensor[:0],
        lambda: tensor[None],
        lambda: tensor.flatten()[:1].expand(2**40),
        lambda: tensor.flatten()[0],
        lambda: tensor * float("nan"),
        lambda: torch.quantize_per_tensor(tensor.float(), 0.1, 0, torch.qint8),
        lambda: {"inner": tensor},
        lambda: 3,
        lambda: "text",
        lambda: torch.nested.nested_tensor([torch.zeros(1), torch.zeros(2)]),
        lambda: tensor.T.contiguous() if tensor.ndim == 2 else tensor,
    ]
    return makers[kind % len(makers)]()


@st.composite
def _odd_checkpoint(draw: Any) -> bytes:
    """A published container with some tensors, names or entries changed."""
    family = draw(st.sampled_from(FAMILIES))
    state: dict[Any, Any] = dict(encoder_state(family, SHAPE, 0))
    for name in draw(st.lists(st.sampled_from(sorted(state)), min_size=1, max_size=3, unique=True)):
        tensor = state.pop(name)
        renamed = draw(
            st.sampled_from([name, name, name, "blocks.99999999999.x", "blocks.7.norm1.weight", "", "a.b", 0])
        )
        state[renamed] = _odd_tensor(tensor, draw(st.integers(0, 100)))
    try:
        content = container(family, state, module=draw(st.booleans())) if all(map(_named, state)) else state
    except (LookupError, AttributeError, TypeError, RuntimeError):  # what it is made of is odd already
        content = state
    if isinstance(content, dict) and draw(st.booleans()):
        content[draw(st.sampled_from(["best", "model", "state_dict", 3]))] = draw(odd_values)
    try:
        return _torch_file(content, draw(st.booleans()))
    except (RuntimeError, NotImplementedError, TypeError):
        return b""


def _named(name: Any) -> bool:
    return isinstance(name, str)


@st.composite
def _odd_native(draw: Any) -> bytes:
    """One of our own files with a header that is altered."""
    spec = EncoderSpec("vit", image_size=8, patch_size=4, width=8, depth=2, heads=2)
    decoder = DecoderSpec("mae", width=8, depth=1, heads=2)
    header = {"format": 1, "spec": spec.to_dict(), "metadata": {"seed": 0}, "decoder": decoder.to_dict()}
    stated = json.dumps(draw(altered(header)))
    return save(build_encoder(spec, 0).backbone.state_dict(), metadata={"cl_vs_mim": stated})


def checkpoints() -> Reader:
    wholes = [_torch_file(container(family, encoder_state(family, SHAPE, 0))) for family in FAMILIES]
    wholes.append(_torch_file(encoder_state("timm", SHAPE, 0), archive=False))
    wholes.append(save(encoder_state("timm", SHAPE, 0)))
    spec = EncoderSpec("vit", image_size=8, patch_size=4, width=8, depth=2, heads=2)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.safetensors"
        save_encoder(path, build_encoder(spec, 0), {}, decoder=build_decoder(spec, DecoderSpec("simmim")))
        wholes.append(path.read_bytes())

    def read(path: Path, choice: int) -> None:
        if path.read_bytes()[8:9] == b"{":
            path = path.rename(path.with_suffix(".safetensors"))
            if choice % 3:
                read_header(path)
                load_decoder(path, "native", load_encoder(path, "native"))
                return
        if choice % 5 == 1:
            read_timm(path, TIMM)
            return
        encoder = load_encoder(path, FAMILIES[choice % len(FAMILIES)], **SIZES)
        if FAMILIES[choice % len(FAMILIES)] in ("mae", "simmim"):
            load_decoder(path, FAMILIES[choice % len(FAMILIES)], encoder, num_heads=2, norm_pix=True)
        assert all(torch.isfinite(weight).all() for weight in encoder.parameters())

    return Reader(damaged(wholes) | _odd_checkpoint() | _odd_native(), ".pth", read)


def images() -> Reader:
    noise = np.random.default_rng(0).integers(0, 256, (20, 24, 3), dtype=np.uint8)
    wholes = []
    for form, mode, options in (
        *(("JPEG", mode, {}) for mode in ("L", "RGB", "CMYK")),
        (
            "JPEG",
            "RGB",
            {"progressive": True, "exif": b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"},
        ),
        *(("PNG", mode, {}) for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")),
        *(
            ("TIFF", mode, {"compression": how})
            for mode, ways in {
                "L": ("raw", "tiff_lzw", "jpeg"),
                "RGB": ("raw", "jpeg"),
                "I;16": ("raw", "tiff_lzw"),
            }.items()
            for how in ways
        ),
        *(("BMP", mode, {}) for mode in ("L", "P", "RGB")),
        *(("PPM", mode, {}) for mode in ("1", "L", "RGB", "I;16", "F")),
        ("WEBP", "RGB", {}),
        ("WEBP", "RGBA", {"lossless": True}),
    ):
        stream = io.BytesIO()
        wide = mode in ("I;16", "F")
        picture = Image.fromarray(noise[..., 0].astype(np.uint16 if mode == "I;16" else np.float32)) if wide else None
        try:
            (picture or Image.fromarray(noise).convert(mode)).save(stream, form, **options)
        except OSError:
            continue
        wholes.append(stream.getvalue())

    def read(path: Path, choice: int) -> None:
        if choice % 4 == 0:
            open_mask(path)
        elif choice % 4 == 1:
            assert decode(path, 16).shape == (16, 16, 3)
        else:
            assert open_rgb(path).size == upright_size(path)

    return Reader(damaged(wholes), ".jpg", read)


def annotations() -> Reader:
    from pycocotools import mask as masks

    side = 16
    runs = {"size": [side, side], "counts": [3, 5, side * side - 8]}
    letters = {"size": [side, side], "counts": masks.frPyObjects(runs, side, side)["counts"].decode()}
    polygon = [[1, 1, 9, 1, 9, 9.5]]
    row = {"image_id": 1, "category_id": 2, "bbox": [1, 1, 8, 8.5], "area": 30, "iscrowd": 0}
    whole = {
        "images": [{"id": 1, "file_name": "a.png", "width": side, "height": side}],
        "categories": [{"id": 2, "name": "disc"}, {"id": 5, "name": "box"}],
        "annotations": [row | {"id": n, "segmentation": mask} for n, mask in enumerate((runs, letters, polygon))],
    }

    def read(path: Path, choice: int) -> None:
        folder = path.with_suffix("")
        folder.mkdir(exist_ok=True)
        (folder / "a.png").touch()
        check_split(path, folder)
        content = json.loads(path.read_text(encoding="utf-8"))
        for row in content["annotations"]:  # as detectron2 does it, with polygons of too few points left out
            found = row["segmentation"]
            if isinstance(found, list):
                found = [part for part in found if len(part) % 2 == 0 and len(part) >= 6]
                masks.decode(masks.merge(masks.frPyObjects(found, side, side)))
            elif isinstance(found["counts"], list):
                masks.decode(masks.frPyObjects(found, *found["size"]))
            else:
                masks.decode(found)

    texts = altered(whole).map(lambda data: json.dumps(data).encode("utf-8", "surrogatepass"))
    return Reader(texts | damaged([json.dumps(whole).encode()]), ".json", read)


def yamls() -> Reader:
    study = (ROOT / "config" / "smoke.yaml").read_bytes()
    claims = (ROOT / "config" / "claims.yaml").read_bytes()
    bomb = b"a: &a [x, x]\nb: &b [*a, *a, *a]\nc: {<<: {x: 1}, y: *b}\n"
    texts = [altered(yaml.safe_load(whole)).map(_yaml) for whole in (study, claims)]

    def read(path: Path, choice: int) -> None:
        recipes = path.parent / "recipes"
        if not recipes.exists():
            recipes.symlink_to(ROOT / "config" / "recipes")
        (load_claims if b"multiverse" in path.read_bytes()[:400] else load_study)(path)

    return Reader(st.one_of(*texts, damaged([study, claims, bomb])), ".yaml", read)


def _yaml(data: Any) -> bytes:
    return yaml.safe_dump(data, sort_keys=False, allow_unicode=True).encode("utf-8", "surrogatepass")


def tables() -> Reader:
    frame = pd.DataFrame({"path": ["a/x.png", "b"], "value": [0.5, 1e9], "kind": pd.Categorical(["u", "v"])})
    stream = io.BytesIO()
    frame.to_parquet(stream, index=False)
    manifest = b"".join((ROOT / "data" / "kit" / "manifest.csv").read_bytes().splitlines(keepends=True)[:4])
    wholes = [stream.getvalue(), frame.to_csv(index=False).encode(), manifest]

    def read(path: Path, choice: int) -> None:
        if path.read_bytes()[:4] == b"PAR1":
            read_table(path.rename(path.with_suffix(".parquet")))
        elif choice % 3 == 0:
            read_table(path)
        elif choice % 3 == 1:
            read_text_table(path, ("path", "kind"), "restore it")
        else:
            read_manifest(path.rename(path.parent / "manifest.csv").parent)

    assert set(COLUMNS) <= set(manifest.splitlines()[0].decode().split(","))
    return Reader(damaged(wholes), ".csv", read)


READERS = {"checkpoint": checkpoints, "image": images, "annotation": annotations, "yaml": yamls, "table": tables}
