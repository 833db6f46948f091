"""Print the class of photos: `python predict.py photo.jpg …`.

It needs onnxruntime, numpy and Pillow, and the files beside it.
"""

from __future__ import annotations

import hashlib
import json
import sys

import onnxruntime
from photos import HERE, pixels, prepared  # type: ignore[import-not-found]


def printable(text: str) -> str:
    """Spell out what would command a terminal."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def changed() -> list[str]:
    """Name the files here that are not those that were exported, by SHA256SUMS."""
    sums = HERE / "SHA256SUMS"
    lines = sums.read_text(encoding="utf-8").splitlines() if sums.exists() else []
    read = {"model.onnx", "model.onnx.data", "classes.json", "preprocess.json"}
    named = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
    found = {n: hashlib.sha256((HERE / n).read_bytes()).hexdigest() for n in read & named.keys()}
    return [name for name, digest in found.items() if digest != named[name]]


def main() -> int:
    """Print path, class and probability of every photo; return 1 if one cannot be read."""
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    if wrong := changed():
        print(f"{wrong[0]} is not the one that was exported, by SHA256SUMS", file=sys.stderr)
        return 2
    classes = json.loads((HERE / "classes.json").read_text(encoding="utf-8"))
    session = onnxruntime.InferenceSession(HERE / "model.onnx", providers=["CPUExecutionProvider"])
    code = 0
    for path in sys.argv[1:]:
        try:
            ready = pixels(prepared(path))
        except Exception as error:  # whatever a damaged file makes of its reader
            print(f"{printable(path)}: cannot be read: {printable(str(error))}", file=sys.stderr)
            code = 1
            continue
        (probabilities,) = session.run(None, {"pixels": ready})[0]
        best = int(probabilities.argmax())
        print(f"{printable(path)}\t{printable(classes[best])}\t{probabilities[best]:.4f}")
    return code


if __name__ == "__main__":
    sys.exit(main())
