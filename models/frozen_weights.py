"""Frozen matrices in the type of their products: automatic mixed precision rounds them every time.

Autocast keeps its copy of a weight that is trained until the step ends. One that is frozen it
copies at each use, forward and for each portion of a batch, beside the whole one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import nn
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear

from models.encoder import STEM, LayerGroup

MULTIPLYING = (*(nn.Linear, NonDynamicallyQuantizableLinear, nn.Conv2d, nn.MultiheadAttention),)
"""Modules that use their own parameters in products alone; kinds derived from them may not."""


def in_products(group: LayerGroup) -> Iterator[tuple[str, nn.Parameter]]:
    """Yield the parameters of a group, by name, that autocast rounds wherever they are used.

    The stem runs in full precision.
    """
    for path, module in group.named_modules():
        if type(module) in MULTIPLYING and group.name != STEM:
            yield from module.named_parameters(prefix=path, recurse=False)


@torch.no_grad()
def round_frozen(groups: Iterable[nn.Module], dtype: torch.dtype) -> None:
    """Round what is frozen of the groups to `dtype` for good, where autocast would each time."""
    for group in groups:
        assert isinstance(group, LayerGroup)
        for _, parameter in in_products(group):
            if not parameter.requires_grad:
                parameter.data = parameter.data.to(dtype)
