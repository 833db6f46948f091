"""An adapted model as an ONNX file."""

from __future__ import annotations

from pathlib import Path

import torch

from models.exported import AdaptedModel
from models.loading import quietly

OPSET = 18
PIXELS, PROBABILITIES = "pixels", "probabilities"
LARGEST = 1 << 30  # bytes of weights inside the file, which protobuf limits to 2 GiB


def write_onnx(model: AdaptedModel, size: tuple[int, int], path: Path) -> None:
    """Write a model that maps `pixels` (n, 3, height, width) to `probabilities` (n, C), n any.

    Large weights lie beside the file, in one of the same name that ends in `.data`.

    Args:
        model: on the CPU.
        size: height and width.
        path: the file to write.
    """
    example = torch.zeros(2, 3, *size)  # with a batch of 1 the exporter would fix n at 1
    weights = sum(weight.numel() * weight.element_size() for weight in model.parameters())
    fast_path = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # its fused operation is none of ONNX
    try:
        with quietly():
            torch.onnx.export(
                model,
                (example,),
                path,
                input_names=[PIXELS],
                output_names=[PROBABILITIES],
                dynamic_shapes={PIXELS: {0: torch.export.Dim("n")}},
                opset_version=OPSET,
                external_data=weights > LARGEST,
                verbose=False,
            )
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_path)
