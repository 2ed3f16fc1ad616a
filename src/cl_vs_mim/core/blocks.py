"""Numbers of blocks, as studies write them."""

from __future__ import annotations


def block_index(block: int, depth: int) -> int:
    """A block of the YAML (1 … L, or -1 … -L from the end) as 0 … L-1.

    Raises:
        ValueError: there is no such block.
    """
    if not (1 <= block <= depth or -depth <= block <= -1):
        raise ValueError(f"{block} is not a block of an encoder of {depth} (1 … {depth}, or -1 … -{depth})")
    return block - 1 if block > 0 else depth + block
