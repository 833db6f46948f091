"""Measure what a GPU does with encoding, training and milestones; a part of `make gpu`.

    python -m benchmarks.on_gpu                       # Markdown rows for RESULTS.md
    python -m benchmarks.on_gpu together --trials 4   # steps a second of trials side by side

The encoder is a ViT-B/32 with random weights, and images are blank: neither changes the time.
"""

from __future__ import annotations

import argparse
import io
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from benchmarks.geometry import CONFIGS, fit_on_zeros, random_encoder
from benchmarks.limits import counted_flops
from models import PIXELS, Device, Encoder, Fit
from models.device import available_device

BATCH, EXAMPLES = 64, 2048
SECONDS = 3.0  # of each measurement, after it has warmed up
WARMUP = 5  # calls
READY = 30.0  # seconds in which processes side by side load torch and warm up
TOGETHER = (1, 2, 4)
SHARED = "everything in block 11"  # the trial that gains most from company: it is mostly launches
TRAINED = {name: config | {"batch_size": BATCH} for name, config in CONFIGS.items()}
BOUNDARIES = ("block 7", "head")
Row = tuple[str, str]


@dataclass(frozen=True)
class Bench:
    """A device, an encoder that trials copy from, and the seconds of each measurement."""

    device: Device
    encoder: Encoder
    seconds: float = SECONDS

    def fit(self, name: str, cuda_graph: bool = False) -> Fit:
        """Make a fit of one of `TRAINED`."""
        return fit_on_zeros(self.encoder, TRAINED[name], EXAMPLES, self.device, cuda_graph)

    def time(self, work: Callable[[], object]) -> float:
        """Return the mean seconds of `work()`, called again and again."""
        for _ in range(WARMUP):
            work()
        self._finish()
        began, calls = time.perf_counter(), 0
        while time.perf_counter() - began < self.seconds:
            for _ in range(WARMUP):  # to wait for the device seldom
                work()
            calls += WARMUP
            self._finish()
        return (time.perf_counter() - began) / calls

    def _finish(self) -> None:
        if self.device.torch.type == "cuda":
            torch.cuda.synchronize()


def peak_flops(bench: Bench, side: int = 8192) -> float:
    """Return the operations a second of a large matrix product, as trials multiply."""
    a = torch.randn(side, side, device=bench.device.torch)
    with bench.device.autocast():
        half = a.to((a[:2, :2] @ a[:2, :2]).dtype)
        return 2 * side**3 / bench.time(lambda: half @ half)


def encoding_rows(bench: Bench) -> Iterator[Row]:
    """Measure the encoder in the feature stage, without decoding: pixels there, features back."""
    encoder = bench.encoder
    pixels = torch.zeros(BATCH, *encoder.shapes[PIXELS])
    there = encoder.suffix(PIXELS).to(bench.device.torch)
    wanted = {encoder.index(boundary) for boundary in BOUNDARIES}

    def encode() -> None:
        x = pixels.to(bench.device.torch)
        with torch.no_grad(), bench.device.autocast():
            for index, group in enumerate(there, start=1):
                x = group(x)
                if index in wanted:
                    x.float().cpu()

    yield "encoding, images a second", f"{BATCH / bench.time(encode):,.0f}"


def step_rows(bench: Bench, peak: float) -> Iterator[Row]:
    """Measure a step of each configuration, of `BATCH` images."""
    for name in TRAINED:
        fit = bench.fit(name)
        seconds = bench.time(fit.step)
        share = counted_flops(fit.step) / seconds / peak
        figures = f"{1e3 * seconds:.2f} ms, {BATCH / seconds:,.0f} images a second, {share:.0%}"
        yield f"a step of {name}, and its share of the peak", figures


def graph_rows(bench: Bench) -> Iterator[Row]:
    """Measure a step whose features are on the device, launched bit by bit and as a whole."""
    for name in TRAINED:
        seconds = []
        for cuda_graph in (False, True):
            fit = bench.fit(name, cuda_graph)
            fit.train_until(BATCH)  # from then on features stay
            seconds.append(bench.time(fit.step))
        figures = " and ".join(f"{1e3 * each:.2f} ms" for each in seconds)
        yield f"a step of {name}, features on the GPU: without and with `cuda_graph`", figures


def milestone_rows(bench: Bench) -> Iterator[Row]:
    """Measure what a milestone takes beside its steps: evaluations, and the checkpoint."""
    fit = bench.fit("everything in blocks 11-7")
    fit.step()
    evaluated = bench.time(lambda: fit.train_until(fit.samples, prospect=True))
    saved = bench.time(lambda: torch.save(fit.state_dict(), io.BytesIO()))
    yield (
        f"a milestone of everything in blocks 11-7: evaluation on {EXAMPLES:,}, checkpoint",
        f"{evaluated:.2f} s, {saved:.2f} s",
    )


def together_rows(device: str, counts: Sequence[int] = TOGETHER) -> Iterator[Row]:
    """Measure how many images a second trials train on that share a GPU, each in its process."""
    for count in counts:
        at = str(time.time() + READY)
        words = ["-m", "benchmarks.on_gpu", "alone", "--device", device, "--at", at]
        words += ["--trials", str(count)]
        running = [
            subprocess.Popen([sys.executable, *words], stdout=subprocess.PIPE, text=True)
            for _ in range(count)
        ]
        found = sum(float(process.communicate()[0].split()[-1]) for process in running)
        yield f"{count} trials of {SHARED} on a GPU, images a second", f"{BATCH * found:,.0f}"


def alone(bench: Bench, at: float) -> float:
    """Return the steps a second of one trial from the time `at` on, in seconds since the epoch."""
    fit = bench.fit(SHARED)
    for _ in range(WARMUP):
        fit.step()
    time.sleep(max(0.0, at - time.time()))
    return 1 / bench.time(fit.step)


def rows(bench: Bench) -> Iterator[Row]:
    """Measure all that one process can."""
    peak = peak_flops(bench, side=8192 if bench.device.torch.type == "cuda" else 512)
    precision = bench.device.precision
    yield f"a product of matrices in {precision}, TFLOP/s", f"{peak / 1e12:.3g}"
    yield from encoding_rows(bench)
    yield from step_rows(bench, peak)
    yield from graph_rows(bench)
    yield from milestone_rows(bench)


def print_rows(found: Iterator[Row]) -> None:
    """Print Markdown rows as they come."""
    for name, value in found:
        print(f"| {name} | {value} |", flush=True)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", nargs="?", choices=("all", "together", "alone"), default="all")
    parser.add_argument("--device", default=None, help="cuda or cpu (default: what there is)")
    parser.add_argument("--trials", type=int, default=1, help="at once, for `together`")
    parser.add_argument("--at", type=float, default=0.0, help=argparse.SUPPRESS)
    given: Any = parser.parse_args(arguments)
    device = given.device or available_device()
    if given.what == "together":
        print_rows(together_rows(device, (given.trials,)))
        return
    if device == "cuda" and given.trials > 1:
        available_device(1 / given.trials)  # holds this process to its share
    torch.set_num_threads(1)
    bench = Bench(Device(device, "auto"), random_encoder())
    if given.what == "alone":
        print(alone(bench, given.at))
        return
    print_rows(rows(bench))
    print_rows(together_rows(device))


if __name__ == "__main__":
    main()
