"""CLIP's own classifier over our embedding is CLIP."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from data import DataConfig, load_dataset
from errors import InputError
from models.config import LOCAL_DIR, ModelConfig
from models.encoder import embedding
from models.loading import _text_fingerprint, load_pretrained
from models.towers import split_tower
from models.zero_shot import Prompts, unread_words, zero_shot_head

CLASSES = ("red apple", "pear", "a very long name of a plum that the context cuts off somewhere")
TEMPLATES = ("a photo of a {}", "the {}", "{}.")
PROMPTS = Prompts(CLASSES, TEMPLATES)
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def config(**text: Any) -> dict[str, Any]:
    vision = {"image_size": 16, "patch_size": 8, "width": 32, "layers": 2, "head_width": 16}
    tower = {"context_length": 12, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}
    return {"embed_dim": 20, "vision_cfg": vision, "text_cfg": {**tower, **text}}


def tiny(custom: bool = False, **text: Any) -> torch.nn.Module:
    torch.manual_seed(0)
    made = open_clip.CustomTextCLIP if custom else open_clip.CLIP
    model: torch.nn.Module = made(**config(**text)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim:  # but for the logit scale
                parameter.add_(0.05 * torch.randn_like(parameter))
    return model


@torch.no_grad()
def reference(model: torch.nn.Module, pixels: Tensor, prompts: Prompts) -> Tensor:
    """As in open_clip's README: normalised features, class by class, times the scale."""
    tokenizer = open_clip.SimpleTokenizer(context_length=model.context_length)
    columns = []
    for words in prompts.words:
        filled = [template.format(words) for template in prompts.templates]
        tokens = tokenizer(filled if isinstance(words, str) else list(words))
        texts = model.encode_text(tokens)
        texts = texts / texts.norm(dim=-1, keepdim=True)
        columns.append(texts.mean(0) / texts.mean(0).norm())
    images = model.encode_image(pixels)
    images = images / images.norm(dim=-1, keepdim=True)
    logits: Tensor = model.logit_scale.exp() * images @ torch.stack(columns, dim=1)
    return logits


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("cat", "dog"), []),
        (("one two three four five six seven eight nine ten", "dog"), []),  # 12 tokens
        (("one two three four five six seven eight nine ten eleven", "dog"), ["prompts of 1 "]),
        ((("a dog", "the " * 20), "cat"), ["prompts of 1 "]),
        (("the " * 20 + "cat", "the " * 20 + "dog"), ["prompts of 2 ", "prompt for 2 "]),
        (("dog", "Dog"), ["prompt for 2 "]),
    ],
)
def test_words_that_the_text_tower_does_not_read_are_told(
    words: tuple[str | tuple[str, ...], ...], told: list[str]
) -> None:
    lines = unread_words(tiny(), "ViT-B-32", Prompts(words, ("{}",)))
    assert len(lines) == len(told)
    assert all(part in line for part, line in zip(told, lines, strict=True))


@pytest.mark.parametrize("custom", [False, True])
@pytest.mark.parametrize("templates", [TEMPLATES, TEMPLATES[:1]])
@pytest.mark.parametrize("many", [1, 7])
def test_logits_are_clips(custom: bool, templates: tuple[str, ...], many: int) -> None:
    model = tiny(custom)
    prompts = Prompts(tuple(f"{words} {i}" for i in range(many) for words in CLASSES), templates)
    pixels = torch.randn(5, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    head = zero_shot_head(model, "ViT-B-32", prompts)
    assert head.weight.shape == (3 * many, 20)
    assert not head.bias.any()
    embedded = split_tower(model.visual)(pixels)
    logits = embedded @ head.weight.T + head.bias
    torch.testing.assert_close(logits, reference(model, pixels, prompts), rtol=0, atol=1e-4)
    with torch.no_grad():
        torch.testing.assert_close(embedded, embedding(model.encode_image(pixels)))


@pytest.mark.parametrize("where", [0, 1, 2])
def test_sentences_stand_alone_beside_words_that_fill_templates(where: int) -> None:
    model = tiny()
    words: list[str | tuple[str, ...]] = list(CLASSES)
    words[where] = ("a round fruit, {red} or green", "it has a stalk", "sold by the kilo")
    described = Prompts(tuple(words), TEMPLATES)
    pixels = torch.randn(5, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    head = zero_shot_head(model, "ViT-B-32", described)
    x = embedding(model.encode_image(pixels))
    assert torch.allclose(
        x @ head.weight.T, reference(model, pixels, described), rtol=1e-4, atol=1e-4
    )
    plain = zero_shot_head(model, "ViT-B-32", PROMPTS)
    same = (head.weight == plain.weight).all(dim=1).tolist()
    assert same == [number != where for number in range(3)]


def test_a_head_has_no_gradient_and_no_dropout() -> None:
    model = tiny().train()
    first, second = (zero_shot_head(model, "ViT-B-32", PROMPTS) for _ in range(2))
    assert torch.equal(first.weight, second.weight)
    assert first.weight.dtype == torch.float32
    assert first.weight.is_contiguous()
    assert not first.weight.requires_grad


def test_a_head_is_kept_for_the_text_tower_and_the_prompts_it_came_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []
    build = open_clip.build_zero_shot_classifier

    def counted(*args: Any, **options: Any) -> Any:
        asked.append(args)
        return build(*args, **options)

    monkeypatch.setattr(open_clip, "build_zero_shot_classifier", counted)
    model = tiny()

    def head(prompts: Prompts = PROMPTS) -> Tensor:
        return zero_shot_head(model, "ViT-B-32", prompts, tmp_path).weight

    fresh = head()
    assert torch.equal(head(), fresh)
    assert len(asked) == 1
    other = head(Prompts(CLASSES[::-1], TEMPLATES))
    assert len(asked) == 2
    torch.testing.assert_close(other, fresh.flip(0))
    with torch.no_grad():
        model.get_parameter("logit_scale").add_(1.0)
    scaled = head()
    assert len(asked) == 3
    torch.testing.assert_close(scaled, math.e * fresh)


@pytest.mark.parametrize(
    "settings", [{"heads": 4}, {"pool_type": "last"}, {"no_causal_mask": True}], ids=str
)
@pytest.mark.parametrize("custom", [False, True])
def test_a_head_of_another_text_tower_is_not_taken(
    custom: bool, settings: dict[str, Any], tmp_path: Path
) -> None:
    """Of one whose weights are the same, and their names."""
    kept, other = tiny(custom), tiny(custom, **settings)
    other.load_state_dict(kept.state_dict())
    zero_shot_head(kept, "ViT-B-32", PROMPTS, tmp_path)
    expected = zero_shot_head(other, "ViT-B-32", PROMPTS).weight
    assert torch.equal(zero_shot_head(other, "ViT-B-32", PROMPTS, tmp_path).weight, expected)
    assert fingerprint_of(other) != fingerprint_of(kept)


def fingerprint_of(model: torch.nn.Module) -> str:
    return _text_fingerprint(model, "ViT-B-32", PROMPTS)


@pytest.mark.parametrize("custom", [False, True])
def test_the_text_towers_fingerprint_is_of_its_weights_alone(custom: bool) -> None:
    before, same = tiny(custom), tiny(custom)
    with torch.no_grad():
        for parameter in same.visual.parameters():
            parameter.add_(1.0)
    assert fingerprint_of(before) == fingerprint_of(same)
    for name, parameter in same.named_parameters():
        if not name.startswith("visual."):
            with torch.no_grad():
                parameter.view(-1)[-1] += 1e-6
            assert fingerprint_of(before) != fingerprint_of(same), name
            with torch.no_grad():
                parameter.view(-1)[-1] -= 1e-6


def test_a_cache_that_cannot_be_written_to_is_done_without(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    model = tiny()
    expected = zero_shot_head(model, "ViT-B-32", PROMPTS).weight
    found = zero_shot_head(model, "ViT-B-32", PROMPTS, tmp_path / "file" / "cache").weight
    assert torch.equal(found, expected)


@pytest.mark.parametrize("damage", ["one bit", "cut short"])
def test_a_damaged_head_is_computed_again(damage: str, tmp_path: Path) -> None:
    model = tiny()
    fresh = zero_shot_head(model, "ViT-B-32", PROMPTS, tmp_path).weight
    (file,) = tmp_path.iterdir()
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content if damage == "one bit" else content[:50])
    assert torch.equal(zero_shot_head(model, "ViT-B-32", PROMPTS, tmp_path).weight, fresh)
    assert file.read_bytes() != content


def test_the_bundled_model_reads_digits() -> None:
    """Of the training split: the test split is for the winners."""
    photos = ("a photo of the {}", "a picture of the {}", "a blurry photo of the {}")
    templates = (*photos, "a scan of the {}", "an image of the {}", "the {}")
    prompts = Prompts(tuple(f"digit {name}" for name in DIGITS), templates)
    pretrained = load_pretrained(ModelConfig(), prompts)
    assert pretrained.zero_shot is not None
    dataset = load_dataset(DataConfig(source="digits"))
    keys, labels = dataset.train.keys, torch.from_numpy(dataset.train.labels.copy())
    images = torch.stack([pretrained.preprocess(dataset.source.image(key)) for key in keys])
    with torch.no_grad():
        embedded = pretrained.encoder(images)
    logits = embedded @ pretrained.zero_shot.weight.T + pretrained.zero_shot.bias
    assert (logits.argmax(1) == labels).double().mean() > 0.7
    shuffled = Prompts(prompts.words[::-1], templates)
    reversed_head = load_pretrained(ModelConfig(), shuffled).zero_shot
    assert reversed_head is not None
    torch.testing.assert_close(reversed_head.weight, pretrained.zero_shot.weight.flip(0))


def test_without_prompts_there_is_no_head_and_the_encoder_is_the_same() -> None:
    plain, asked = load_pretrained(ModelConfig()), load_pretrained(ModelConfig(), PROMPTS)
    assert plain.zero_shot is None
    assert asked.zero_shot is not None
    assert plain.fingerprint == asked.fingerprint


def folder(path: Path, **text: Any) -> str:
    """A local model whose text tower has these settings."""
    path.mkdir()
    cfg = {"model_cfg": config(**text), "preprocess_cfg": {"mean": [0.5] * 3, "std": [0.5] * 3}}
    (path / "open_clip_config.json").write_text(json.dumps(cfg))
    vocabulary = text.get("vocab_size", 49408)
    save_file(tiny(vocab_size=vocabulary).state_dict(), path / "open_clip_model.safetensors")
    return f"{LOCAL_DIR}{path}"


BROKEN: dict[str, Callable[[Path], dict[str, Any]]] = {
    "no tokenizer": lambda path: {"hf_tokenizer_name": str(path / "nowhere")},
    "tokens that the tower lacks": lambda path: {"vocab_size": 20},
}


@pytest.mark.parametrize("name", BROKEN)
def test_without_a_tokenizer_that_fits_prompts_are_bad_input(name: str, tmp_path: Path) -> None:
    model = ModelConfig(name=folder(tmp_path / "model", **BROKEN[name](tmp_path)))
    assert load_pretrained(model).zero_shot is None
    with pytest.raises(InputError, match=r"^model: the text tower or tokenizer of") as error:
        load_pretrained(model, PROMPTS)
    assert "\n" not in str(error.value)
    assert "zero_shot needs" in str(error.value)
