"""Checkpoints of others: bombs, tensors that are none, headers that lie; and the wrappings in which good ones come."""

from __future__ import annotations

import json
import os
import pickle
import resource
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from cl_vs_mim.core.errors import UserError
from cl_vs_mim.encoder.checkpoints import load_decoder, load_encoder, read_header, save_encoder
from cl_vs_mim.encoder.decoders import DecoderSpec, build_decoder
from cl_vs_mim.encoder.model import EncoderSpec, build_encoder
from random_checkpoints import Shape, container, encoder_state

SMALL = Shape()
SIZES = {"img_size": SMALL.image, "patch_size": SMALL.patch, "num_heads": SMALL.heads}
SPEC = EncoderSpec("vit", image_size=24, patch_size=4, width=24, depth=2, heads=3)
GIGABYTE = 1_000_000_000


@pytest.fixture
def state() -> dict[str, torch.Tensor]:
    return encoder_state("timm", SMALL, 0)


def write(tmp_path: Path, content: Any, name: str = "x.pth", **options) -> Path:
    torch.save(content, tmp_path / name, **options)
    return tmp_path / name


def refused(path: Path, words: str, family: str = "timm") -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(UserError, match=words) as caught:
        load_encoder(path, family, **({} if family == "native" else SIZES))
    assert path.name in str(caught.value)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000  # kB


# ------------------------------------------------------------------------------------------------
# Bombs
# ------------------------------------------------------------------------------------------------


def rezipped(path: Path, method: int, bomb: int = 0) -> None:
    """The archive again, compressed, with zeros behind one tensor."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content + bytes(bomb if name.endswith("data/0") else 0))


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_an_archive_with_compressed_members_is_not_unpacked(tmp_path, state, method):
    path = write(tmp_path, state)
    rezipped(path, method, 50_000_000)
    refused(path, "is compressed, as torch never writes it")


def test_an_archive_that_lists_one_member_many_times_is_refused(tmp_path, state):
    path = write(tmp_path, state)
    with zipfile.ZipFile(path, "a") as archive:
        for number in range(50):
            twin = zipfile.ZipInfo(f"twin/{number}")
            first = archive.getinfo(archive.namelist()[0])
            for field in ("header_offset", "CRC"):
                setattr(twin, field, getattr(first, field))
            twin.file_size = twin.compress_size = path.stat().st_size // 2
            archive.filelist.append(twin)
            archive._didModify = True
    refused(path, "declares more than the file holds")


def test_half_an_archive_is_refused(tmp_path, state):
    path = write(tmp_path, state)
    path.write_bytes(path.read_bytes() + bytes(70_000))  # Python finds no end any more, torch would look for one
    refused(path, "fetch it again")


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_a_bytearray_of_any_size_is_not_made(tmp_path):
    path = tmp_path / "x.pth"

    class Zeros:
        def __reduce__(self):
            return bytearray, (3 * GIGABYTE,)

    path.write_bytes(pickle.dumps({"a": Zeros()}, protocol=2))
    refused(path, "holds a bytearray")
    write(tmp_path, {"a": Zeros()})
    refused(path, "holds a bytearray")


def test_a_block_of_a_huge_number_is_refused(tmp_path, state):
    state["blocks.999999999.norm1.weight"] = torch.zeros(SMALL.width)
    refused(write(tmp_path, state), "has tensors of block 999999999, but of 3 blocks in all")
    state["blocks.2.norm1.weight"] = state.pop("blocks.999999999.norm1.weight")
    refused(write(tmp_path, state), r"- blocks\.2\.norm1\.bias")


def test_tensors_without_values_behind_them_are_refused(tmp_path, state):
    wide = dict(state)
    wide["patch_embed.proj.weight"] = torch.zeros(1).expand(4_000_000_000, 3, 4, 4)
    refused(write(tmp_path, wide), "claims .* values, more than the file holds")
    shared = torch.zeros(100_000)
    many = state | {f"blocks.0.extra{number}": shared for number in range(500)}
    refused(write(tmp_path, many), "its tensors claim 0.2 GB, more than the file holds")


def header(tmp_path: Path, **changes: Any) -> Path:
    path = tmp_path / "x.safetensors"
    spec = SPEC.to_dict() | changes
    tensors = build_encoder(SPEC, 0).backbone.state_dict()
    stated = {"format": 1, "spec": spec, "metadata": {}}
    save_file({name: value.contiguous() for name, value in tensors.items()}, path, {"cl_vs_mim": json.dumps(stated)})
    return path


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"depth": 10**9}, "depth should be a whole number from 1 to 256, not 1000000000"),
        ({"depth": 256}, r"- blocks\.2\.norm1\.weight"),
        ({"depth": 0}, "depth should be"),
        ({"depth": True}, "depth should be a whole number"),
        ({"width": 4 * 10**9}, "width should be a whole number from 1 to 65536"),
        ({"width": 65532, "heads": 3}, "does not hold the tensors"),
        ({"mlp_ratio": 60.0}, "does not hold the tensors"),
        ({"mlp_ratio": float("inf")}, "mlp_ratio should be a number"),
        ({"image_size": 2**40}, "image_size should be"),
        ({"image_size": 8192, "patch_size": 4}, "patches along a side should be"),
        ({"heads": -3}, "heads should be"),
        ({"heads": 5}, "width 24 is not a multiple of heads 5"),
        ({"heads": 3.0}, "heads should be a whole number"),
        ({"layer_norm_eps": float("nan")}, "layer_norm_eps should be a number"),
        ({"layer_norm_eps": -1e-6}, "layer_norm_eps should be a number"),
        ({"layer_norm_eps": "1e-6"}, "layer_norm_eps should be a number"),
        ({"drop_path": float("nan")}, "drop_path should be"),
        ({"layer_scale": float("inf")}, "layer_scale should be"),
        ({"family": "swin"}, "there is no family 'swin'"),
        ({"family": ["vit"]}, "family should be a name"),
        ({"positions": "rotary"}, "does not take positions 'rotary'"),
        ({"positions": None}, "positions should be a name"),
        ({"patch_size": 0}, "patch_size should be"),
        ({"colour": "red"}, "fields this version does not know: colour"),
    ],
)
def test_a_native_header_is_held_against_limits_and_tensors(tmp_path, changes, words):
    path = header(tmp_path, **changes)
    refused(path, words, "native")
    if "tensors" not in words and "blocks" not in words:
        with pytest.raises(UserError, match=words):
            read_header(path)


@pytest.mark.parametrize(
    "stated", ["[1]", "null", "{}", '{"format": 1, "spec": [], "metadata": {}}', "[" * 5000, '{"format": 2}', "3"]
)
def test_a_native_header_of_another_form_is_refused(tmp_path, stated):
    path = tmp_path / "x.safetensors"
    save_file({"a": torch.zeros(1)}, path, {"cl_vs_mim": stated})
    for read in (lambda: load_encoder(path, "native"), lambda: read_header(path)):
        with pytest.raises(UserError, match=r"x\.safetensors"):
            read()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"width": 10**9}, "width should be"),
        ({"depth": 10**9}, "depth should be"),
        ({"depth": 200}, "does not hold the tensors"),
        ({"heads": -1}, "heads should be"),
        ({"codes": 10**12}, "codes should be"),
        ({"width": 0}, "describes what cannot be built"),
        ({"width": 18}, "describes what cannot be built"),
        ({"method": "gan"}, r"x\.safetensors: there is no decoder 'gan'"),
        ({"norm_pix": "yes"}, "norm_pix true or false"),
    ],
)
@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
def test_a_native_decoder_s_header_is_held_as_well(tmp_path, changes, words):
    path, encoder = tmp_path / "x.safetensors", build_encoder(SPEC, 0)
    decoder = build_decoder(SPEC, DecoderSpec("mae", width=16, depth=1, heads=2))
    save_encoder(path, encoder, {}, decoder=decoder)
    load_decoder(path, "native", encoder)
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    outer = json.loads(content[8 : 8 + length])
    inner = json.loads(outer["__metadata__"]["cl_vs_mim"])
    inner["decoder"] |= changes
    outer["__metadata__"]["cl_vs_mim"] = json.dumps(inner)
    stated = json.dumps(outer).encode()
    path.write_bytes(len(stated).to_bytes(8, "little") + stated + content[8 + length :])
    with pytest.raises(UserError, match=words):
        load_decoder(path, "native", encoder)


# ------------------------------------------------------------------------------------------------
# Values
# ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "dtype", [torch.complex64, torch.bool, torch.int8, torch.int64, torch.uint8, torch.float8_e4m3fn, torch.float8_e5m2]
)
def test_weights_are_of_a_type_for_weights(tmp_path, state, dtype):
    state["blocks.1.mlp.fc2.bias"] = torch.ones(SMALL.width).to(dtype)
    name = str(dtype).removeprefix("torch.")
    words = rf"blocks\.1\.mlp\.fc2\.bias is of type {name}; weights are float32"
    refused(write(tmp_path, state), words)
    save_file(state, tmp_path / "y.safetensors")
    refused(tmp_path / "y.safetensors", words)


def test_values_beyond_float32_are_refused(tmp_path, state):
    state["norm.bias"] = torch.full((SMALL.width,), 1e300, dtype=torch.float64)
    refused(write(tmp_path, state), r"norm\.bias holds values beyond float32")
    state["norm.bias"] = torch.full((SMALL.width,), 1e30, dtype=torch.float64)
    encoder = load_encoder(write(tmp_path, state), "timm", **SIZES)
    assert encoder.norm.bias[0] == 1e30


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("place", ["norm.bias", "head.bias"])
@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: torch.ones(24).to_sparse(), "is sparse"),
        (lambda: torch.eye(24).to_sparse_csr(), "is sparse"),
        (lambda: torch.ones(24, device="meta"), "is a meta tensor"),
        (lambda: torch.quantize_per_tensor(torch.ones(24), 0.1, 0, torch.qint8), "is quantised"),
    ],
)
def test_tensors_that_are_no_arrays_are_refused_by_name(tmp_path, state, place, make, words):
    refused(write(tmp_path, state | {place: make()}), f"{place} {words}")


@pytest.mark.parametrize("content", [{0: torch.zeros(3)}, {"a": {1: torch.zeros(2)}}, [torch.zeros(2)], 3, {}, None])
def test_content_that_is_no_state_dict_is_refused(tmp_path, content):
    refused(write(tmp_path, content), "state dict")
    refused(write(tmp_path, {"state_dict": content}), "state dict|no .* not of family")


def test_what_is_no_file_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe.pth")
    for family in ("timm", "native", "mae"):
        refused(tmp_path / "pipe.pth", "is a named pipe, not a file", family)
    (tmp_path / "folder.safetensors").mkdir()
    refused(tmp_path / "folder.safetensors", "is a folder, not a file", "native")
    for name in ("pipe.pth", "folder.safetensors"):
        with pytest.raises(UserError, match="not a file"):
            read_header(tmp_path / name)


@pytest.mark.parametrize("given", [{"num_heads": 0}, {"patch_size": -4}, {"img_size": 24.0}, {"num_heads": True}])
def test_sizes_that_are_none_are_refused(tmp_path, state, given):
    with pytest.raises(UserError, match="should be a positive whole number"):
        load_encoder(write(tmp_path, state), "timm", **SIZES | given)


# ------------------------------------------------------------------------------------------------
# Wrappings of good ones
# ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "prefix", ["module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module.", "model.", "net."]
)
@pytest.mark.parametrize("where", ["bare", "state_dict", "model"])
def test_wrapped_names_of_timm_are_read(tmp_path, state, prefix, where):
    wrapped = {prefix + name: value for name, value in container("timm", state).items()}
    content = wrapped if where == "bare" else {where: wrapped, "best_acc": 71.5, "note": "x", "epoch": 3}
    encoder = load_encoder(write(tmp_path, content), "timm", **SIZES)
    for name, tensor in encoder.backbone.state_dict().items():
        assert torch.equal(tensor, state[name]), name


def test_scalars_between_the_tensors_are_no_tensors(tmp_path, state):
    load_encoder(write(tmp_path, state | {"best_acc": 71.5, "arch": "vit"}), "timm", **SIZES)


def test_a_checkpoint_of_lightning_is_read(tmp_path, state):
    content = {
        "state_dict": {f"model.{name}": value for name, value in state.items()},
        **{"epoch": 3, "global_step": 12, "pytorch-lightning_version": "2.5.0", "loops": {}, "callbacks": {}},
        **{"optimizer_states": [], "lr_schedulers": [], "hparams_name": "kwargs", "hyper_parameters": {"lr": 0.1}},
    }
    encoder = load_encoder(write(tmp_path, content), "timm", **SIZES)
    assert torch.equal(encoder.norm.bias, state["norm.bias"])


def test_a_second_network_beside_it_is_still_refused(tmp_path, state):
    content = {f"model.{name}": value for name, value in state.items()} | {"teacher.norm.bias": torch.zeros(3)}
    refused(write(tmp_path, content), r"\+ teacher\.norm\.bias")


def test_positions_without_cls_are_called_what_they_are(tmp_path, state):
    """DeiT III: the message spoke of CLS and 195 patches, and of 196 patches that were wanted."""
    state["pos_embed"] = state["pos_embed"][:, 1:]
    refused(write(tmp_path, state), r"36 rows, one for each of 6x6 patches and none for CLS \(DeiT III")


# ------------------------------------------------------------------------------------------------
# Memory
# ------------------------------------------------------------------------------------------------


def test_a_bomb_is_refused_within_little_memory(tmp_path, state):
    """In a process that may not have more than 1 GB above what the imports take."""
    path = write(tmp_path, state | {"blocks.255.norm1.weight": torch.zeros(24)})
    code = (
        "import resource, sys; from pathlib import Path; from cl_vs_mim.encoder.checkpoints import load_encoder\n"
        "from cl_vs_mim.core.errors import UserError; import timm\n"
        "used = int(Path('/proc/self/statm').read_text().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (used + 10**9, used + 10**9))\n"
        f"try: load_encoder(Path({str(path)!r}), 'timm', img_size=24, patch_size=4, num_heads=3)\n"
        "except UserError as error: print(error)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert "has tensors of block 255" in result.stdout, result.stderr
