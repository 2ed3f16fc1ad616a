"""timm's plain ViTs by their names: DeiT, DeiT III, DINOv2 and v3, CLIP and SigLIP towers, EVA, BEiT fine-tuned, ….

timm's own module is the network: its name says everything that the sizes of a specification do not (registers,
LayerScale, rotary positions, gated MLPs, a LayerNorm before the blocks or none behind them). Nothing of it is written
anew here. A block is looked into by running it without fused attention and reading, in its own modules, what enters and
leaves them; whether that is what the fused block computes is asked of every file that is loaded
(:mod:`cl_vs_mim.encoder.checkpoints.agreement`).

Encoders with windows, with a grid that changes with depth, with other than square patches, or with attention and MLP
side by side are refused with the reason.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from cl_vs_mim.core.errors import UserError, nearest
from cl_vs_mim.core.untrusted import reason
from cl_vs_mim.encoder.families import Family, Inside
from cl_vs_mim.encoder.layers import resized_table
from cl_vs_mim.encoder.spec import EncoderSpec

PLAIN = ("vision_transformer", "deit", "eva", "beit")  # of timm.models, in which the plain ViTs are
_BEFORE = ("timm.models.vision_transformer.Block", "timm.models.eva.EvaBlock", "timm.models.beit.Block")
_AFTER = ("timm.models.vision_transformer.ResPostBlock", "timm.models.eva.EvaBlockPostNorm")  # norms on the residuals


class TimmViT(Family):
    """A plain ViT of timm's, built by its name ``variant`` and the sizes of the specification."""

    positions = ("variant",)
    absolute = False
    any_size = False

    # ---- construction ----------------------------------------------------------------------------

    def check(self, spec: EncoderSpec) -> None:
        super().check(spec)
        if spec.variant is None:
            raise ValueError("family 'timm_vit' needs a variant, timm's name of the architecture")
        for name, plain in (("layer_scale", None), ("mlp_ratio", 4.0)):
            if getattr(spec, name) != plain:
                raise ValueError(f"{name}: leave it out, the variant {spec.variant} says it")

    def build(self, spec: EncoderSpec) -> nn.Module:
        """The untrained network.

        Raises:
            UserError: timm has no such name, or what it names is no plain ViT; the reason is given.
            ValueError: the specification's epsilon is not the network's.
        """
        assert spec.variant is not None
        sizes: dict[str, Any] = {
            "img_size": spec.image_size,
            "patch_size": spec.patch_size,
            "embed_dim": spec.width,
            "depth": spec.depth,
            "num_heads": spec.heads,
            "drop_path_rate": spec.drop_path,
        }
        backbone = create(spec.variant, **sizes)
        _require_plain(spec, backbone)
        return backbone

    def prefix(self, backbone: nn.Module) -> tuple[str, ...]:
        names = ["cls"] if backbone.cls_token is not None else []
        names += ["distillation"] if getattr(backbone, "dist_token", None) is not None else []
        return (*names, *(f"register {number + 1}" for number in range(backbone.num_prefix_tokens - len(names))))

    # ---- embedding -------------------------------------------------------------------------------

    def patches(self, backbone: nn.Module, images: Tensor) -> Tensor:
        return backbone.patch_embed(images)

    def placed(self, backbone: nn.Module, patches: Tensor, rows: int, columns: int) -> Tensor:
        if not hasattr(backbone, "_pos_embed"):  # BEiT
            tokens = torch.cat([backbone.cls_token.expand(len(patches), -1, -1), patches], dim=1)
            return tokens if backbone.pos_embed is None else tokens + backbone.pos_embed
        tokens = backbone._pos_embed(patches)
        return backbone.norm_pre(tokens[0] if isinstance(tokens, tuple) else tokens)  # EVA: with its rotations

    # ---- blocks ----------------------------------------------------------------------------------

    def bias(self, backbone: nn.Module, rows: int, columns: int) -> Any:
        """EVA's rotations of queries and keys, for all blocks or by block; or the bias that a BEiT's blocks share."""
        if getattr(backbone, "rope", None) is not None:
            rope = backbone.rope
            turns = rope.get_embed() if hasattr(rope, "feat_shape") else rope.get_embed(shape=(rows, columns))
            return list(turns) if backbone.rope_mixed else turns
        shared = getattr(backbone, "rel_pos_bias", None)
        return None if shared is None else shared()

    def of_block(self, bias: Any, index: int) -> Any:
        return bias[index] if isinstance(bias, list) else bias

    def apply(self, block: nn.Module, tokens: Tensor, bias: Any) -> Tensor:
        if bias is None:
            return block(tokens)
        name = "rope" if _name(block).startswith("timm.models.eva.") else "shared_rel_pos_bias"
        return block(tokens, **{name: bias})

    def look(self, block: nn.Module, tokens: Tensor, bias: Any, heads: int) -> Inside:
        attention = block.attn
        with ExitStack() as stack:
            stack.enter_context(_unfused(block))
            maps = stack.enter_context(_seen(attention.attn_drop))
            outputs = stack.enter_context(_seen(attention.norm if hasattr(attention, "norm") else attention.proj))
            middle = stack.enter_context(_seen(block.mlp if _name(block) in _AFTER else block.norm2))
            after = self.apply(block, tokens, bias)
        (softmax,), (joined,), (between,) = maps, outputs, middle
        return Inside(softmax, joined.unflatten(2, (heads, -1)).transpose(1, 2), between, after)

    # ---- weights ---------------------------------------------------------------------------------

    def resized(self, name: str, value: Tensor, new: Tensor, grid: int) -> Tensor | None:
        if value.shape == new.shape:
            return value
        if name.endswith("relative_position_bias_table"):
            return resized_table(value, grid, grid)
        from timm.layers import resample_abs_pos_embed

        return resample_abs_pos_embed(value, [grid, grid], num_prefix_tokens=new.shape[1] - grid**2)


# ------------------------------------------------------------------------------------------------
# timm's networks
# ------------------------------------------------------------------------------------------------


def create(variant: str, **sizes: Any) -> nn.Module:
    """timm's network of this name without its classifier, untrained; nothing is fetched.

    Args:
        variant: timm's name, without a tag.
        sizes: arguments of timm's class that are to be otherwise than with this name.

    Raises:
        UserError: there is no such name, or what it names is no plain ViT.
    """
    from timm.models import is_model, list_models, model_entrypoint

    if not is_model(variant):
        raise UserError(f"timm has no architecture {variant!r}{nearest(variant, list_models())}")
    make = model_entrypoint(variant)
    module = make.__module__.removeprefix("timm.models.")
    if module not in PLAIN:
        raise UserError(f"{variant} cannot be looked into here: {_reason(make, module)}")
    fixed = {} if module == "beit" else {"dynamic_img_size": False}
    try:
        return make(pretrained=False, num_classes=0, **fixed, **sizes)
    except (AssertionError, TypeError, ValueError) as error:
        raise UserError(f"timm cannot build {variant} with {sizes}: {reason(error)}") from error


def _reason(make: Any, module: str) -> str:
    """Why a network that is no plain ViT is refused."""
    with torch.device("meta"):
        try:
            network = make(pretrained=False)
        except RuntimeError:  # of torch, without memory
            network = nn.Module()
    steps = {one["reduction"] for one in getattr(network, "feature_info", []) if isinstance(one, dict)}
    if len(steps) > 1:
        return "it is hierarchical, its grid of patches changes with depth"
    if any(isinstance(getattr(part, "window_size", None), int) and part.window_size for part in network.modules()):
        return "its attention is windowed"
    known = ", ".join(f"timm.models.{name}" for name in PLAIN)
    return f"it is of timm.models.{module}, which is not among the plain ViTs ({known})"


def _require_plain(spec: EncoderSpec, backbone: nn.Module) -> None:
    def refuse(why: str) -> None:
        raise UserError(f"{spec.variant} cannot be looked into here: {why}")

    kinds = {_name(block) for block in backbone.blocks}
    if odd := sorted(kinds - {*_BEFORE, *_AFTER}):
        refuse(f"its blocks are {odd[0]}, in which attention and MLP are not one after the other")
    if not isinstance(getattr(backbone.patch_embed, "proj", None), nn.Conv2d):
        refuse("its patches are not one projection of the pixels")
    projection = backbone.patch_embed.proj
    if projection.kernel_size != (spec.patch_size,) * 2 or projection.stride != projection.kernel_size:
        refuse(
            f"its patches are {projection.kernel_size} px at a distance of {projection.stride}, not squares in a grid"
        )
    eps = getattr(backbone.blocks[0].norm1, "eps", None)
    if eps != spec.layer_norm_eps:
        raise UserError(f"{spec.variant} has layer_norm_eps {eps!r}, but {spec.layer_norm_eps:g} is stated")


# ------------------------------------------------------------------------------------------------
# Looking into a block
# ------------------------------------------------------------------------------------------------


@contextmanager
def _unfused(block: nn.Module) -> Iterator[None]:
    """Within it, the block computes its attention maps as a tensor, and drops nothing."""
    attention, training = block.attn, block.training
    fused, attention.fused_attn = attention.fused_attn, False
    block.eval()
    try:
        yield
    finally:
        attention.fused_attn = fused
        block.train(training)


@contextmanager
def _seen(module: nn.Module) -> Iterator[list[Tensor]]:
    """What enters a module within it, in order."""
    found: list[Tensor] = []
    handle = module.register_forward_pre_hook(lambda _, inputs: found.append(inputs[0]))
    try:
        yield found
    finally:
        handle.remove()


def _name(block: nn.Module) -> str:
    return f"{type(block).__module__}.{type(block).__qualname__}"


FAMILY = TimmViT()
