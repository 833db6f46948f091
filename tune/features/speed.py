"""How fast an encoder is: timed while it makes features, and kept beside them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from statistics import median
from typing import TypeVar

from data import FeatureStore
from records import EncoderTimed, decode, encode

Result = TypeVar("Result")
FILE = "speed.json"  # beside the features
LEAST = 16  # images of a batch that is timed: fewer take a GPU as long
AGAIN = 1.0  # seconds that a process's first batch may take to be encoded twice


class WarmUp:
    """Has a process encode its first batch twice, so that its time is like those that follow.

    A GPU loads its kernels in it. Where it takes long all the same, they are a small part of it.
    """

    def __init__(self) -> None:
        self._warm = False

    def timed(self, encode_batch: Callable[[], tuple[Result, float]]) -> tuple[Result, float]:
        """Return what `encode_batch` does: its result, and the seconds that it took."""
        result, seconds = encode_batch()
        if not self._warm and seconds < AGAIN:
            result, seconds = encode_batch()
        self._warm = True
        return result, seconds


def typical(measured: Sequence[EncoderTimed]) -> EncoderTimed | None:
    """Return the median of what jobs measured, on the kind of device that did most of them."""
    if not measured:
        return None
    ((device, _),) = Counter(one.device for one in measured).most_common(1)
    rates = [one.images_per_second for one in measured if one.device == device]
    return EncoderTimed(round(median(rates), 3), device)


def together(speeds: Sequence[EncoderTimed | None]) -> EncoderTimed | None:
    """Return the speed of encoders that each image goes through, one after the other.

    None if one was not timed, or on another kind of device.
    """
    timed = [speed for speed in speeds if speed]
    if len(timed) < len(speeds) or len({one.device for one in timed}) > 1:
        return None
    seconds = sum(1 / one.images_per_second for one in timed)
    return EncoderTimed(round(1 / seconds, 3), timed[0].device)


def keep_speed(store: FeatureStore, speed: EncoderTimed) -> None:
    """Note an encoder's speed beside its features, for runs that find all of them there."""
    store.note(FILE, json.dumps(encode(speed)))


def kept_speed(store: FeatureStore) -> EncoderTimed | None:
    """Return the speed that was noted last, if there is one that can be read."""
    with suppress(ValueError, TypeError, RecursionError):
        return decode(EncoderTimed, json.loads(store.noted(FILE) or ""))
    return None
