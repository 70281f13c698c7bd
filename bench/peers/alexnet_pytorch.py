#!/usr/bin/env python3
"""The same two-tower network and training step in PyTorch, to measure crosstower against: eager mode, one process.

A grouped layer is one grouped convolution, LRN stays inside a tower, crossing layers see both towers. Every choice is the one that was
fastest for PyTorch; the pictures are already in memory and the classes do not matter.

    pip install -r requirements-pytorch.txt
    python alexnet_pytorch.py --threads 2 --json            # one JSON line
    python alexnet_pytorch.py --threads 2 --serve           # rounds on command, to alternate with another process:
        prints {"ready": true, ...}; then `run N` answers {"stepMs": [N times]}, and `quit` or the end of input ends it

With `--channels-last auto` both memory formats are warmed up and tried in turn for a few steps, and the faster one is measured.
"""

import argparse
import json
import os
import statistics
import sys
import time

import torch
import torch.nn.functional as F
from torch import nn

# input size (224 and 3 more rows and columns for alexnet), kernels of conv1-5, units of fc6 and fc7, classes
NETWORKS = {
    "alexnet": (227, (96, 256, 384, 384, 256), 4096, 1000),
    "compact": (67, (24, 64, 96, 96, 64), 512, 10),
}
LR, MOMENTUM, WEIGHT_DECAY, DROPOUT = 0.01, 0.9, 5e-4, 0.5
K, RADIUS, ALPHA, BETA = 2.0, 2, 1e-4, 0.75
TRIAL_STEPS = 3


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--network", choices=NETWORKS, default="alexnet")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--warmup", type=int, default=3)
    parser.add_argument("--channels-last", choices=["auto", "yes", "no"], default="auto", help="memory format of pictures and kernels")
    parser.add_argument("--lrn", choices=["banded", "native"], default="banded", help="a banded 1x1 convolution, or PyTorch's own module")
    parser.add_argument("--serve", action="store_true", help="run rounds on command from standard input")
    parser.add_argument("--json", action="store_true", help="one JSON line instead of a sentence")
    return parser.parse_args()


# ---- the network ----------------------------------------------------------------------------------------------------------------


class NativeNorm(nn.Module):
    """LRN inside each tower, with the module that PyTorch has for it, whose alpha is divided by the number of neighbours."""

    def __init__(self):
        super().__init__()
        neighbours = 2 * RADIUS + 1
        self.norm = nn.LocalResponseNorm(neighbours, ALPHA * neighbours, BETA, K)

    def forward(self, x):
        return torch.cat([self.norm(half) for half in x.chunk(2, dim=1)], dim=1)


class Banded(torch.autograd.Function):
    """The same function over both towers at once: the sum over neighbouring maps is a 1x1 convolution with two bands of ones."""

    @staticmethod
    def forward(ctx, x, band):
        root = F.conv2d(x * x, ALPHA * band).add_(K).rsqrt_()
        scale = root.sqrt().mul_(root)  # (k + alpha * sum)^-0.75
        ctx.save_for_backward(x, root, scale, band)
        return x * scale

    @staticmethod
    def backward(ctx, dy):
        x, root, scale, band = ctx.saved_tensors
        through_neighbours = F.conv2d((dy * x).mul_(scale).mul_(root).mul_(root), (2 * ALPHA * BETA) * band)
        return torch.addcmul(dy * scale, x, through_neighbours, value=-1), None


class BandedNorm(nn.Module):
    def __init__(self, channels):
        super().__init__()
        index = torch.arange(channels)
        near = (index[:, None] - index[None, :]).abs() <= RADIUS
        same_tower = (index[:, None] < channels // 2) == (index[None, :] < channels // 2)
        self.register_buffer("band", (near & same_tower).float()[:, :, None, None])

    def forward(self, x):
        return Banded.apply(x, self.band)


def build(name, lrn):
    size, (c1, c2, c3, c4, c5), hidden, classes = NETWORKS[name]
    for kernel, stride in ((11, 4), (3, 2), (3, 2), (3, 2)):  # conv1 and three poolings; the other layers keep the size
        size = (size - kernel) // stride + 1
    norm = BandedNorm if lrn == "banded" else lambda channels: NativeNorm()
    relu = lambda: nn.ReLU(inplace=True)
    network = nn.Sequential(
        *[nn.Conv2d(3, c1, 11, 4), relu(), norm(c1), nn.MaxPool2d(3, 2)],
        *[nn.Conv2d(c1, c2, 5, padding=2, groups=2), relu(), norm(c2), nn.MaxPool2d(3, 2)],
        *[nn.Conv2d(c2, c3, 3, padding=1), relu()],
        *[nn.Conv2d(c3, c4, 3, padding=1, groups=2), relu()],
        *[nn.Conv2d(c4, c5, 3, padding=1, groups=2), relu(), nn.MaxPool2d(3, 2)],
        nn.Flatten(),
        *[nn.Linear(size * size * c5, hidden), relu(), nn.Dropout(DROPOUT)],
        *[nn.Linear(hidden, hidden), relu(), nn.Dropout(DROPOUT)],
        nn.Linear(hidden, classes),
    )
    for parameter in network.parameters():
        nn.init.normal_(parameter, 0, 0.01) if parameter.dim() > 1 else nn.init.zeros_(parameter)
    return network


def training_step(options, channels_last):
    """A function that does one step. torch's SGD keeps the rate outside the velocity: the same steps while the rate stays the same."""
    size, _, _, classes = NETWORKS[options.network]
    layout = torch.channels_last if channels_last else torch.contiguous_format
    network = build(options.network, options.lrn).to(memory_format=layout)
    optimizer = torch.optim.SGD(network.parameters(), LR, MOMENTUM, weight_decay=WEIGHT_DECAY, fused=True)
    images = torch.randn(options.batch, 3, size, size).to(memory_format=layout)
    labels = torch.randint(0, classes, (options.batch,))

    def step():
        optimizer.zero_grad()
        loss = F.cross_entropy(network(images), labels)
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


# ---- the measurement ------------------------------------------------------------------------------------------------------------


def timed(step, count):
    """Milliseconds of each of `count` steps."""
    times = []
    for _ in range(count):
        start = time.perf_counter()
        step()
        times.append(round((time.perf_counter() - start) * 1000, 3))
    return times


def warm_step(options):
    """The warmed-up step in the memory format asked for, or in the faster one, and that format's name."""
    formats = {"auto": ["channels_last", "contiguous"], "yes": ["channels_last"], "no": ["contiguous"]}[options.channels_last]
    steps = {name: training_step(options, channels_last=name == "channels_last") for name in formats}
    trials = {name: [] for name in formats}
    for name, step in steps.items():
        timed(step, options.warmup)
    for _ in range(TRIAL_STEPS if len(formats) > 1 else 0):
        for name, step in steps.items():
            trials[name] += timed(step, 1)
    best = min(formats, key=lambda name: statistics.median(trials[name] or [0]))
    return steps[best], best


def serve(step, about):
    print(json.dumps({"ready": True, **about}), flush=True)
    for line in sys.stdin:
        match line.split():
            case ["run", count]:
                print(json.dumps({"stepMs": timed(step, int(count))}), flush=True)
            case ["quit"]:
                return
            case []:
                continue
            case _:
                sys.exit(f"unknown command {line.strip()!r}: expected `run N` or `quit`")


def main():
    options = arguments()
    torch.set_num_threads(options.threads)
    step, memory_format = warm_step(options)
    about = {"framework": "PyTorch", "version": torch.__version__, "network": options.network, "batch": options.batch,
             "threads": options.threads, "memoryFormat": memory_format, "lrn": options.lrn}
    if options.serve:
        return serve(step, about)
    times = timed(step, options.steps)
    median = statistics.median(times)
    result = {**about, "imagesPerSecond": round(options.batch / median * 1000, 2), "stepMsMedian": round(median, 3), "stepMs": times}
    if options.json:
        print(json.dumps(result))
    else:
        print(f"PyTorch {torch.__version__}, {options.network}: {result['imagesPerSecond']} images/s, median step {median:.1f} ms")


if __name__ == "__main__":
    main()
