"""Random state dicts in the published containers' form, and a plain reading of what such an encoder computes.

Nothing here uses the package: the forward pass is written out from the papers' block equations.
"""

from __future__ import annotations

import math
from argparse import Namespace
from typing import NamedTuple

import torch
from torch import Tensor


class Shape(NamedTuple):
    image: int = 24
    patch: int = 4
    width: int = 24
    depth: int = 2
    heads: int = 3
    hidden: int = 96


def encoder_state(family: str, shape: Shape, seed: int) -> dict[str, Tensor]:
    """Random tensors of an encoder under the names of the original code, without prefixes.

    ``beit_1k`` is BEiT as published for ImageNet-1K: absolute positions, no LayerScale, and no bias on the keys.
    """
    generator = torch.Generator().manual_seed(seed)

    def draw(*size: int, scale: float = 0.3, centre: float = 0.0) -> Tensor:
        return centre + scale * torch.randn(size, generator=generator)

    width, grid = shape.width, shape.image // shape.patch
    state = {
        "cls_token": draw(1, 1, width),
        "patch_embed.proj.weight": draw(width, 3, shape.patch, shape.patch),
        "patch_embed.proj.bias": draw(width),
        "norm.weight": draw(width, centre=1.0),
        "norm.bias": draw(width),
    }
    beit = family in ("simmim", "beit", "beit_1k", "openmmlab_beit")
    if beit and family != "beit_1k":
        state["rel_pos_bias.relative_position_bias_table"] = draw((2 * grid - 1) ** 2 + 3, shape.heads, scale=1.0)
        state["rel_pos_bias.relative_position_index"] = relative_index(grid)
    else:
        state["pos_embed"] = draw(1, 1 + grid**2, width, scale=1.0)
    for block in range(shape.depth):
        weights = {
            "norm1.weight": draw(width, centre=1.0),
            "norm1.bias": draw(width),
            "attn.qkv.weight": draw(3 * width, width),
            "attn.proj.weight": draw(width, width),
            "attn.proj.bias": draw(width),
            "norm2.weight": draw(width, centre=1.0),
            "norm2.bias": draw(width),
            "mlp.fc1.weight": draw(shape.hidden, width),
            "mlp.fc1.bias": draw(shape.hidden),
            "mlp.fc2.weight": draw(width, shape.hidden, scale=0.1),
            "mlp.fc2.bias": draw(width),
        }
        if beit:
            weights |= {"attn.q_bias": draw(width), "attn.v_bias": draw(width)}
        if beit and family != "beit_1k":
            weights |= {"gamma_1": draw(width, centre=0.5), "gamma_2": draw(width, centre=0.5)}
        if not beit:
            weights["attn.qkv.bias"] = draw(3 * width)
        state |= {f"blocks.{block}.{name}": tensor for name, tensor in weights.items()}
    return state


def container(family: str, state: dict[str, Tensor], *, module: bool = True) -> dict:
    """The file's content: the encoder's tensors with prefixes, and what the original training leaves beside them."""
    width = state["cls_token"].shape[-1]
    other = torch.full((2, width), 7.0)
    training = {"epoch": 3, "optimizer": {"state": {0: {"exp_avg": other}}, "param_groups": [{"lr": 0.1}]}}
    if family == "moco_v3":
        prefix = "module." if module else ""
        encoders = {}
        for encoder, shift in (("base_encoder", 0.0), ("momentum_encoder", 5.0)):
            encoders |= {f"{prefix}{encoder}.{name}": tensor + shift for name, tensor in state.items()}
            encoders |= {f"{prefix}{encoder}.head.0.weight": other, f"{prefix}{encoder}.head.1.running_mean": other}
        return {"state_dict": encoders | {f"{prefix}predictor.0.weight": other}, "arch": "vit_small"} | training
    if family == "simmim":
        inner = {f"encoder.{name}": tensor for name, tensor in state.items()}
        return {"model": inner | {"encoder.mask_token": other[None], "decoder.0.weight": other}} | training
    if family in ("beit", "beit_1k"):
        return {"model": state | {"mask_token": other[None], "lm_head.weight": other, "lm_head.bias": other}} | training
    if family == "mae":
        return {"model": state | {"mask_token": other, "decoder_embed.weight": other, "decoder_pred.bias": other}}
    if family == "mae_encoder":  # as it was published without its decoder
        return {"model": dict(state)}
    if family in ("dino_full", "ibot"):
        student = {f"module.backbone.{name}": tensor + 5.0 for name, tensor in state.items()}
        student |= {"module.head.mlp.0.weight": other, "module.head.last_layer.weight_g": other}
        teacher = {f"backbone.{name}": tensor for name, tensor in state.items()} | {"head.mlp.0.weight": other}
        loss = {"dino_loss": {"center": other}} if family == "dino_full" else {"ibot_loss": {"center2": other}}
        student |= {} if family == "dino_full" else {"module.backbone.masked_embed": other[:1]}
        scaler = {"fp16_scaler": {"scale": 65536.0, "growth_factor": 2.0}}
        return {"student": student, "teacher": teacher, "args": Namespace(arch="vit_small")} | training | loss | scaler
    if family in ("openmmlab", "openmmlab_beit"):
        inner = {f"backbone.{_openmmlab(name)}": tensor for name, tensor in state.items()}
        beside = {"neck.mlp.0.weight": other, "head.predictor.fc0.weight": other, "data_preprocessor.mean": other}
        return {"meta": {"epoch": 300, "cfg": "model = dict()"}, "state_dict": inner | beside}
    if family == "timm":
        return state | {"head.weight": other, "head.bias": other[:, 0]}
    return dict(state)


def _openmmlab(name: str) -> str:
    """The name in mmpretrain's VisionTransformer and BEiT of what timm calls so."""
    words = {"patch_embed.proj.": "patch_embed.projection.", "blocks.": "layers.", ".norm1.": ".ln1."}
    words |= {".norm2.": ".ln2.", ".mlp.fc1.": ".ffn.layers.0.0.", ".mlp.fc2.": ".ffn.layers.1."}
    for theirs, ours in words.items():
        name = name.replace(theirs, ours)
    return name.replace("norm.", "ln1.") if name.startswith("norm.") else name


def relative_index(grid: int) -> Tensor:
    """(1+N, 1+N) rows of the bias table: offsets row-major, then CLS to patch, patch to CLS, CLS to CLS."""
    span = 2 * grid - 1
    index = torch.empty(grid**2 + 1, grid**2 + 1, dtype=torch.long)
    for query in range(grid**2):
        for key in range(grid**2):
            rows, columns = query // grid - key // grid, query % grid - key % grid
            index[1 + query, 1 + key] = (rows + grid - 1) * span + columns + grid - 1
    index[0, :], index[:, 0], index[0, 0] = span**2, span**2 + 1, span**2 + 2
    return index


def plain_forward(state: dict[str, Tensor], shape: Shape, images: Tensor) -> tuple[list[Tensor], list[Tensor], Tensor]:
    """States, attention maps and the normalised last state, straight from the equations, in float64."""
    state = {name: tensor.double() if tensor.is_floating_point() else tensor for name, tensor in state.items()}
    images = images.double()
    size = shape.patch
    patches = images.unfold(2, size, size).unfold(3, size, size)  # (B, 3, grid, grid, P, P)
    patches = torch.einsum("bcyxij,dcij->byxd", patches, state["patch_embed.proj.weight"])
    tokens = patches.flatten(1, 2) + state["patch_embed.proj.bias"]
    tokens = torch.cat([state["cls_token"].expand(len(images), -1, -1), tokens], dim=1)
    bias: Tensor | float = 0.0
    if "pos_embed" in state:
        tokens = tokens + state["pos_embed"]
    else:
        table = state["rel_pos_bias.relative_position_bias_table"]
        bias = table[relative_index(shape.image // size)].permute(2, 0, 1)  # (H, 1+N, 1+N)
    states, maps = [tokens], []
    for block in range(shape.depth):
        part = {name.split(".", 2)[2]: t for name, t in state.items() if name.startswith(f"blocks.{block}.")}
        hidden = _normalise(tokens, part["norm1.weight"], part["norm1.bias"]) @ part["attn.qkv.weight"].T
        q, k, v = hidden.chunk(3, dim=-1)
        if "attn.q_bias" in part:
            q, v = q + part["attn.q_bias"], v + part["attn.v_bias"]
        else:
            q, k, v = (x + b for x, b in zip((q, k, v), part["attn.qkv.bias"].chunk(3), strict=True))
        q, k, v = (x.unflatten(-1, (shape.heads, -1)).transpose(1, 2) for x in (q, k, v))
        attention = (q @ k.mT / math.sqrt(shape.width // shape.heads) + bias).softmax(-1)
        update = (attention @ v).transpose(1, 2).flatten(2) @ part["attn.proj.weight"].T + part["attn.proj.bias"]
        tokens = tokens + part.get("gamma_1", part.get("ls1.gamma", 1.0)) * update
        states.append(tokens)
        maps.append(attention)
        hidden = _normalise(tokens, part["norm2.weight"], part["norm2.bias"]) @ part["mlp.fc1.weight"].T
        hidden = hidden + part["mlp.fc1.bias"]
        hidden = 0.5 * hidden * (1 + torch.erf(hidden / math.sqrt(2)))
        update = hidden @ part["mlp.fc2.weight"].T + part["mlp.fc2.bias"]
        tokens = tokens + part.get("gamma_2", part.get("ls2.gamma", 1.0)) * update
        states.append(tokens)
    return states, maps, _normalise(tokens, state["norm.weight"], state["norm.bias"])


def _normalise(tokens: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    centred = tokens - tokens.mean(-1, keepdim=True)
    return centred / torch.sqrt((centred**2).mean(-1, keepdim=True) + 1e-6) * weight + bias
