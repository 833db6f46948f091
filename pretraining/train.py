"""Pretrain the bundled CLIP, `models/glyph_clip`, on rendered glyphs.

    python -m pretraining.train            # about 25 minutes on 2 cores, writes models/glyph_clip

The training is contrastive, between images and texts. A batch has one caption for each character,
and all images of the character are its positives: the bidirectional loss of UniCL (Yang et al.
2022, arXiv:2204.03610) with the captions of a batch deduplicated.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import time
from collections.abc import Sequence
from pathlib import Path

import open_clip
import torch
import torch.nn.functional as F
from open_clip.model import CLIP
from safetensors.torch import save_file

from pretraining.glyphs import CAPTIONS, CHARACTERS, GlyphSampler, noun

FOLDER = Path(__file__).resolve().parent.parent / "models" / "glyph_clip"
log = logging.getLogger("pretraining")


def captions(rng: torch.Generator, context_length: int) -> torch.Tensor:
    """Return token ids (36, context_length): for each character a caption in a random template."""
    templates = torch.randint(len(CAPTIONS), (len(CHARACTERS),), generator=rng).tolist()
    texts = [
        CAPTIONS[template].format(noun(character))
        for template, character in zip(templates, CHARACTERS, strict=True)
    ]
    tokens: torch.Tensor = open_clip.tokenize(texts, context_length=context_length)
    return tokens


def contrastive_loss(
    images: torch.Tensor, texts: torch.Tensor, labels: torch.Tensor, scale: torch.Tensor
) -> torch.Tensor:
    """Return the cross-entropy of both directions; all images of a character are positives."""
    logits = scale * F.normalize(images, dim=-1) @ F.normalize(texts, dim=-1).T
    positives = F.one_hot(labels, len(texts)).T.to(logits.dtype)
    present = positives.sum(1) > 0
    targets = positives[present] / positives[present].sum(1, keepdim=True)
    return 0.5 * (F.cross_entropy(logits, labels) + F.cross_entropy(logits.T[present], targets))


@torch.no_grad()
def zero_shot_accuracy(
    model: CLIP, images: torch.Tensor, labels: torch.Tensor, nouns: Sequence[str]
) -> float:
    """Return the share of images that are nearest to the captions of their own label's noun."""
    model.eval()
    tokens = [
        open_clip.tokenize([caption.format(noun) for caption in CAPTIONS], model.context_length)
        for noun in nouns
    ]
    texts = torch.stack([model.encode_text(t, normalize=True).mean(0) for t in tokens])
    scores = model.encode_image(images, normalize=True) @ F.normalize(texts, dim=-1).T
    model.train()
    return float((scores.argmax(1) == labels).float().mean())


def train(samples: int, batch_size: int, lr: float, seed: int) -> CLIP:
    """Train with AdamW and a one-cycle rate; return the model in float32."""
    torch.manual_seed(seed)
    config = json.loads((FOLDER / "open_clip_config.json").read_text())["model_cfg"]
    model = CLIP(**config)
    model.train()
    decayed = [p for n, p in model.named_parameters() if p.ndim >= 2 and "embedding" not in n]
    others = [p for n, p in model.named_parameters() if p.ndim < 2 or "embedding" in n]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}],
        lr=lr,
        betas=(0.9, 0.98),
    )
    steps = samples // batch_size
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, steps, cycle_momentum=False)
    sampler = GlyphSampler(config["vision_cfg"]["image_size"], seed)
    held_out = GlyphSampler(sampler.size, seed + 1)
    rng = torch.Generator().manual_seed(seed)
    started = time.perf_counter()
    for step in range(1, steps + 1):
        images, labels = sampler.batch(batch_size)
        tokens = captions(rng, model.context_length)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            image_embeddings, text_embeddings = model.visual(images), model.encode_text(tokens)
        scale = model.logit_scale.exp()
        loss = contrastive_loss(image_embeddings.float(), text_embeddings.float(), labels, scale)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        with torch.no_grad():
            model.logit_scale.clamp_(0, math.log(100))
        if step % 100 == 0 or step == steps:
            rate = step * batch_size / (time.perf_counter() - started)
            nouns = [noun(character) for character in CHARACTERS]
            accuracy = zero_shot_accuracy(model, *held_out.batch(1024), nouns)
            log.info(
                "step %d/%d  loss %.3f  held-out glyphs %.1f%%  %.0f images/s",
                step,
                steps,
                loss.item(),
                100 * accuracy,
                rate,
            )
    return model


def save(model: CLIP, folder: Path) -> None:
    """Write the weights in float16, as open_clip's `local-dir:` loads them."""
    weights = {name: w.detach().half().contiguous() for name, w in model.state_dict().items()}
    save_file(weights, folder / "open_clip_model.safetensors", metadata={"format": "pt"})


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=1_000_000, help="images to train on")
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--lr", type=float, default=1e-3, help="peak learning rate")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=FOLDER)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    model = train(arguments.samples, arguments.batch_size, arguments.lr, arguments.seed)
    save(model, arguments.out)


if __name__ == "__main__":
    main()
