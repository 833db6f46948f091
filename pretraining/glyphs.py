"""Rendered glyphs, the images that the bundled encoder is pretrained on.

Every character is drawn once per typeface as a clean template. A batch picks templates and distorts
them (affine, elastic, stroke weight, loss of resolution, contrast, polarity, noise), so that no two
training images are the same. The images contain no handwriting and no scans.
"""

from __future__ import annotations

import math
from pathlib import Path

import matplotlib
import numpy as np
import torch
import torch.nn.functional as F
from HersheyFonts import HersheyFonts
from PIL import Image, ImageDraw, ImageFont

DIGIT_NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
CHARACTERS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
CAPTIONS = (
    "a photo of the {}",
    "a picture of the {}",
    "a scan of the {}",
    "an image of the {}",
    "the {}",
    "a blurry photo of the {}",
)

_TEMPLATE = 64  # side of a template, in pixels
_FILL = 48  # longer side of the glyph's bounding box inside it
# Fonts without plain digits.
_SKIPPED = (
    "DejaVuSansDisplay",
    "DejaVuSerifDisplay",
    "STIXNonUni",
    "STIXSiz",
    "LastResort",
    "cmex",
    "cmsy",
)
_STROKE_FONTS = (
    "futural",
    "futuram",
    "rowmand",
    "rowmans",
    "rowmant",
    "scriptc",
    "scripts",
    "cursive",
    "timesi",
    "timesib",
    "timesr",
    "timesrb",
)


def noun(character: str) -> str:
    """Return the words of a character in a caption: "digit seven", "letter A"."""
    return f"digit {DIGIT_NAMES[int(character)]}" if character.isdigit() else f"letter {character}"


def _fitted(ink: Image.Image) -> np.ndarray:
    """Crop `ink` to its bounding box, scale it to `_FILL` and centre it."""
    box = ink.getbbox()
    if box is None:
        raise ValueError("an empty glyph")
    glyph = ink.crop(box)
    scale = _FILL / max(glyph.size)
    size = (max(1, round(glyph.width * scale)), max(1, round(glyph.height * scale)))
    canvas = Image.new("L", (_TEMPLATE, _TEMPLATE))
    canvas.paste(
        glyph.resize(size, Image.Resampling.LANCZOS),
        ((_TEMPLATE - size[0]) // 2, (_TEMPLATE - size[1]) // 2),
    )
    return np.asarray(canvas, dtype=np.float32) / 255


def _outline_templates() -> list[np.ndarray]:
    """Draw a stack (36, 64, 64) for each outline typeface that matplotlib ships."""
    stacks = []
    for path in sorted(Path(matplotlib.get_data_path(), "fonts", "ttf").glob("*.ttf")):
        if path.name.startswith(_SKIPPED):
            continue
        font = ImageFont.truetype(str(path), 96)
        glyphs = []
        for character in CHARACTERS:
            image = Image.new("L", (256, 256))
            ImageDraw.Draw(image).text((128, 128), character, fill=255, font=font, anchor="mm")
            glyphs.append(_fitted(image))
        stacks.append(np.stack(glyphs))
    return stacks


def _stroke_templates() -> list[np.ndarray]:
    """Draw a stack (36, 64, 64) for each Hershey stroke face and pen width."""
    stacks = []
    for name in _STROKE_FONTS:
        face = HersheyFonts()
        face.load_default_font(name)
        face.normalize_rendering(140)
        for pen in (6, 12, 20):
            glyphs = []
            for character in CHARACTERS:
                image = Image.new("L", (320, 320))
                draw = ImageDraw.Draw(image)
                for (x1, y1), (x2, y2) in face.lines_for_text(character):
                    draw.line((x1 + 80, y1 + 80, x2 + 80, y2 + 80), fill=255, width=pen)
                    for x, y in ((x1 + 80, y1 + 80), (x2 + 80, y2 + 80)):
                        draw.ellipse((x - pen / 2, y - pen / 2, x + pen / 2, y + pen / 2), fill=255)
                glyphs.append(_fitted(image))
            stacks.append(np.stack(glyphs))
    return stacks


class GlyphSampler:
    """An endless, seeded stream of distorted glyphs, as images of `size` pixels a side."""

    def __init__(self, size: int, seed: int) -> None:
        self.size = size
        self.templates = torch.from_numpy(np.stack(_outline_templates() + _stroke_templates()))
        self._rng = torch.Generator().manual_seed(seed)

    def _uniform(self, n: int, low: float, high: float) -> torch.Tensor:
        return torch.rand(n, generator=self._rng) * (high - low) + low

    def _grid(self, n: int) -> torch.Tensor:
        """Return sampling grids (n, size, size, 2): random affine maps plus smooth fields."""
        angle = self._uniform(n, -20, 20) * math.pi / 180
        shear = self._uniform(n, -0.35, 0.35)
        # A template's glyph spans 3/4 of its side: 1 / 0.9 makes it span 5/6 of the image.
        scale = self._uniform(n, 0.78, 1.15) * 0.9
        aspect = torch.exp(self._uniform(n, -0.25, 0.25))
        sx, sy = scale * aspect, scale / aspect
        cos, sin = torch.cos(angle), torch.sin(angle)
        theta = torch.zeros(n, 2, 3)
        theta[:, 0, 0], theta[:, 0, 1] = cos * sx, (shear - sin) * sx
        theta[:, 1, 0], theta[:, 1, 1] = sin * sy, cos * sy
        theta[:, :, 2] = torch.rand(n, 2, generator=self._rng) * 0.3 - 0.15
        grid = F.affine_grid(theta, [n, 1, self.size, self.size], align_corners=False)
        strength = self._uniform(n, 0, 0.12)[:, None, None, None]
        field = torch.randn(n, 2, 4, 4, generator=self._rng) * strength
        smooth = F.interpolate(field, size=self.size, mode="bicubic", align_corners=True)
        return grid + smooth.permute(0, 2, 3, 1)

    def _blurred(self, images: torch.Tensor) -> torch.Tensor:
        """Scale half of the batch down to a side of 8 to 16 pixels and back."""
        parts = list(images.chunk(4))
        for i in range(2, len(parts)):
            low = int(torch.randint(8, 17, (1,), generator=self._rng))
            small = F.interpolate(parts[i], size=low, mode="area")
            parts[i] = F.interpolate(small, size=self.size, mode="bilinear", align_corners=False)
        return torch.cat(parts)

    def batch(self, n: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return images (n, 3, size, size), scaled to [-1, 1], and labels (n,)."""
        faces = torch.randint(len(self.templates), (n,), generator=self._rng)
        labels = torch.randint(len(CHARACTERS), (n,), generator=self._rng)
        ink = self.templates[faces, labels][:, None]
        weight = torch.randint(3, (n,), generator=self._rng)  # as drawn, bolder, boldest
        for level, kernel in ((1, 3), (2, 5)):
            ink[weight == level] = F.max_pool2d(ink[weight == level], kernel, 1, kernel // 2)
        # Sampling 64 pixels down to `size` would alias: average first.
        ink = F.avg_pool2d(ink, 3, 1, 1)
        images = F.grid_sample(ink, self._grid(n), align_corners=False)
        images = self._blurred(images)
        contrast = self._uniform(n, 0.5, 1.0)[:, None, None, None]
        images = images.clamp(0, 1) ** torch.exp(self._uniform(n, -0.5, 0.5))[:, None, None, None]
        images = images * contrast + (1 - contrast) * self._uniform(n, 0, 1)[:, None, None, None]
        images = images + torch.randn(images.shape, generator=self._rng) * 0.06
        inverted = self._uniform(n, 0, 1)[:, None, None, None] < 0.5
        images = torch.where(inverted, 1 - images, images).clamp(0, 1)
        return ((images - 0.5) / 0.5).expand(-1, 3, -1, -1), labels
