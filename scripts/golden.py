#!/usr/bin/env python3
"""Writes the numbers that test/golden compares the towers with: every layer by itself, and three whole steps of the `tiny` network.

Run from anywhere, in a virtual environment of its own (Python 3.11 or later; on Linux torch brings several GB of CUDA libraries
along and needs them to load, though everything here runs on the CPU):

    python3 -m venv golden-venv
    golden-venv/bin/pip install torch==2.15.0 numpy==2.4.6
    golden-venv/bin/python scripts/golden.py            # test/golden/layers.json and test/golden/tiny-steps.json

Independent of the TypeScript on purpose: PyTorch differentiates, nothing here is derived by hand, and the table of `tiny` is written
out again. All arithmetic is float64. Whatever goes IN (inputs, parameters, upstream gradients) is rounded to float32 first, so that both
sides start from the same values; what comes OUT is rounded to float32 only when written.

An array is {"shape": [...], "float32": "<base64>"} or {"shape": [...], "int32": "<base64>"}, little-endian, the last axis fastest.
Scalars are plain JSON numbers with all their float64 digits. `dX` is the gradient of sum(y * dy) with respect to `x`.

Layouts: pictures [N, H, W, C]; convolution weights [kh, kw, in / groups, out]; dense weights [in, out]; rows of the first dense layer
ordered (h * width + w) * channels + c. In a grouped layer the first half of the inputs and outputs is tower 0's.
"""

import base64
import json
import math
import re
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

SEED = 2012
GOLDEN = Path(__file__).resolve().parent.parent / "test" / "golden"
rng = np.random.default_rng(SEED)


# ---- values in and out ----------------------------------------------------------------------------------------------------------


def exact(values, grad=False):
    """A float64 tensor whose every value is a float32."""
    return torch.tensor(np.asarray(values, np.float32).astype(np.float64), requires_grad=grad)


def normal(shape, sd=1.0, mean=0.0, grad=True):
    return exact(rng.normal(mean, sd, shape), grad)


def encode(tensor):
    array = tensor.detach().numpy() if isinstance(tensor, torch.Tensor) else np.asarray(tensor)
    name, dtype = ("int32", "<i4") if array.dtype.kind == "i" else ("float32", "<f4")
    data = np.ascontiguousarray(array, dtype).tobytes()
    return {"shape": list(array.shape), name: base64.b64encode(data).decode("ascii")}


def gradients(y, dy, **inputs):
    """{"dx": ..., "dw": ...} for the named inputs."""
    found = torch.autograd.grad(y, list(inputs.values()), dy)
    return {f"d{name}": encode(gradient) for name, gradient in zip(inputs, found)}


def header(**more):
    versions = {"torch": torch.__version__.split("+")[0], "numpy": np.__version__}
    return {"madeBy": "scripts/golden.py", **versions, "seed": SEED, "dtype": "float64, written as float32", **more}


# ---- the layers, in NHWC and HWIO -----------------------------------------------------------------------------------------------


def conv(x, w, b, stride, padding, groups=1):
    """padding: top, bottom, left, right."""
    top, bottom, left, right = padding
    padded = F.pad(x.permute(0, 3, 1, 2), (left, right, top, bottom))
    return F.conv2d(padded, w.permute(3, 2, 0, 1), b, stride, groups=groups).permute(0, 2, 3, 1)


def response_norm(x, k=2.0, n=5, alpha=1e-4, beta=0.75):
    """Section 3.3 of the paper. alpha multiplies the plain sum; torch's own LocalResponseNorm would divide it by n."""
    channels = x.shape[-1]
    squares = F.pad(x * x, (n // 2, n // 2))
    total = sum(squares[..., i : i + channels] for i in range(n))
    return x * (k + alpha * total) ** -beta


def max_pool(x, size=3, stride=2):
    return F.max_pool2d(x.permute(0, 3, 1, 2), size, stride).permute(0, 2, 3, 1)


def update(w, v, g, lr, momentum, weight_decay, clip):
    """The paper's rule (section 5): rate and decay sit inside the velocity; a clip scale multiplies the gradient alone."""
    v = momentum * v - lr * weight_decay * w - lr * clip * g
    return w + v, v


# ---- layers.json ----------------------------------------------------------------------------------------------------------------


def convolution_case(name, x_shape, kernel, kernels, stride, padding):
    x = normal(x_shape)
    fan_in = kernel * kernel * x_shape[3]
    w = normal((kernel, kernel, x_shape[3], kernels), math.sqrt(2 / fan_in))
    b = normal((kernels,))
    y = conv(x, w, b, stride, padding)
    dy = normal(y.shape, grad=False)
    return {
        "kind": "convolution",
        "name": name,
        "stride": stride,
        "padding": dict(zip(("top", "bottom", "left", "right"), padding)),
        **{key: encode(t) for key, t in {"x": x, "w": w, "b": b, "y": y, "dy": dy}.items()},
        **gradients(y, dy, x=x, w=w, b=b),
    }


def relu_case():
    values = rng.normal(0, 1, (3, 4, 5))
    values[0, 0, :2] = [0.0, -0.0]  # the gradient at zero is zero
    x = exact(values, grad=True)
    y = F.relu(x)
    dy = normal(y.shape, grad=False)
    return {"kind": "relu", "name": "relu", "x": encode(x), "y": encode(y), "dy": encode(dy), **gradients(y, dy, x=x)}


def nonlinearity_case(name, f):
    x = normal((3, 4, 5), 2)
    y = f(x)
    dy = normal(y.shape, grad=False)
    return {"kind": name, "name": name, "x": encode(x), "y": encode(y), "dy": encode(dy), **gradients(y, dy, x=x)}


def response_norm_case(channels, alpha, sd):
    x = normal((2, 3, 2, channels), sd)
    y = response_norm(x, alpha=alpha)
    dy = normal(y.shape, grad=False)
    return {
        "kind": "responseNorm",
        "name": f"{channels} channels, alpha {alpha:g}",
        **{"bias": 2, "radius": 2, "alpha": alpha, "beta": 0.75},
        **{key: encode(t) for key, t in {"x": x, "y": y, "dy": dy}.items()},
        **gradients(y, dy, x=x),
    }


def max_pool_case(name, shape, size=3):
    count = math.prod(shape)
    x = exact((rng.permutation(count) - count // 2).reshape(shape) / 64, grad=True)  # all different: no ties
    y = max_pool(x, size)
    dy = normal(y.shape, grad=False)
    return {
        "kind": "maxPool",
        "name": name,
        **{"size": size, "stride": 2},
        **{key: encode(t) for key, t in {"x": x, "y": y, "dy": dy}.items()},
        **gradients(y, dy, x=x),
    }


def dense_case():
    x, w, b = normal((4, 7)), normal((7, 6), 0.5), normal((6,))
    y = x @ w + b
    dy = normal(y.shape, grad=False)
    return {
        "kind": "dense",
        "name": "dense",
        **{key: encode(t) for key, t in {"x": x, "w": w, "b": b, "y": y, "dy": dy}.items()},
        **gradients(y, dy, x=x, w=w, b=b),
    }


def dropout_case(form, rate):
    """rate: the share that is dropped. The paper scales at test time, the inverted form in training."""
    x = normal((4, 10))
    mask = exact(rng.random((4, 10)) >= rate)
    keep = 1 - rate
    y = x * mask if form == "paper" else x * mask / keep
    y_test = x * keep if form == "paper" else x * 1
    dy = normal(y.shape, grad=False)
    return {
        "kind": "dropout",
        "name": f"{form}, rate {rate:g}",
        **{"form": form, "rate": rate},
        **{key: encode(t) for key, t in {"x": x, "mask": mask, "y": y, "yTest": y_test, "dy": dy}.items()},
        **gradients(y, dy, x=x),
    }


def softmax_case(name, count, classes, sd, mean=0.0):
    """The loss is the mean over the pictures; top-1 and top-5 are counts of correct pictures."""
    logits = normal((count, classes), sd, mean)
    labels = torch.tensor(rng.integers(0, classes, count), dtype=torch.int32)
    ranked = logits.detach().argsort(dim=1, descending=True)
    labels[0], labels[1], labels[2] = ranked[0, 0], ranked[1, min(4, classes - 1)], ranked[2, -1]
    losses = F.cross_entropy(logits, labels.long(), reduction="none")
    loss = losses.mean()
    hits = ranked == labels[:, None]
    return {
        "kind": "softmaxCrossEntropy",
        "name": name,
        "logits": encode(logits),
        "labels": encode(labels),
        "probabilities": encode(F.softmax(logits, dim=1)),
        "losses": encode(losses),
        "loss": loss.item(),
        "dLogits": encode(torch.autograd.grad(loss, logits)[0]),
        "top1": int(hits[:, :1].sum()),
        "top5": int(hits[:, :5].sum()),
    }


def update_case(name, shape, rates, momentum, weight_decay, clip_scales, bias_lr=1, bias_decay=1):
    """Successive updates of one parameter under a changing rate; biasLr and biasDecay multiply the rate and the decay."""
    w, v = normal(shape, 0.1, grad=False), torch.zeros(shape, dtype=torch.float64)
    case = {
        "kind": "update",
        "name": name,
        **{"momentum": momentum, "weightDecay": weight_decay, "biasLr": bias_lr, "biasDecay": bias_decay},
        **{"w": encode(w), "v": encode(v), "updates": []},
    }
    for lr, clip in zip(rates, clip_scales):
        g = normal(shape, grad=False)
        w, v = update(w, v, g, lr * bias_lr, momentum, weight_decay * bias_decay, clip)
        case["updates"].append({"lr": lr, "clipScale": clip, "g": encode(g), "w": encode(w), "v": encode(v)})
    return case


def layers():
    rates, ones = [0.01, 0.01, 0.001], [1, 1, 1]
    return [
        convolution_case("11x11 stride 4, 3 rows below and 3 columns to the right", (2, 20, 24, 3), 11, 4, 4, (0, 3, 0, 3)),
        convolution_case("5x5 pad 2", (2, 7, 6, 4), 5, 6, 1, (2, 2, 2, 2)),
        convolution_case("3x3 pad 1", (2, 5, 6, 6), 3, 8, 1, (1, 1, 1, 1)),
        convolution_case("5x5 stride 2 without padding", (2, 13, 11, 3), 5, 4, 2, (0, 0, 0, 0)),
        relu_case(),
        # The paper's alpha shows only on large inputs; a large alpha shows errors on any.
        *(response_norm_case(c, alpha, sd) for c in (4, 8, 12) for alpha, sd in ((1e-4, 60), (0.5, 1))),
        max_pool_case("odd sides", (2, 7, 9, 3)),
        max_pool_case("even sides: the last row and column are in no window", (2, 8, 6, 4)),
        dense_case(),
        *(dropout_case(form, rate) for form in ("paper", "inverted") for rate in (0.5, 0.25)),
        softmax_case("10 classes", 8, 10, 1),
        softmax_case("4 classes: top-5 counts all", 5, 4, 1),
        softmax_case("large logits", 6, 12, 60, mean=300),
        update_case("the paper's", (3, 4), rates, 0.9, 5e-4, ones),
        update_case("large decay, clipped gradient", (3, 4), [0.05, 0.02, 0.02], 0.9, 0.1, [0.25, 1, 0.5]),
        update_case("bias at twice the rate without decay", (5,), rates, 0.9, 5e-4, ones, bias_lr=2, bias_decay=0),
        update_case("plain descent", (5,), rates, 0, 0, ones),
        # New cases come last: each draws from where the one before it stopped.
        nonlinearity_case("tanh", torch.tanh),
        nonlinearity_case("sigmoid", torch.sigmoid),
        max_pool_case("disjoint, odd sides: the last row and column are in no window", (2, 7, 5, 4), size=2),
    ]


# ---- tiny-steps.json ------------------------------------------------------------------------------------------------------------

CLASSES, BATCH, STEPS, HIDDEN = 10, 4, 3, 32
LR, MOMENTUM, WEIGHT_DECAY, DROPOUT = 0.05, 0.9, 5e-4, 0.5
# Pictures this strong make LRN change its input by a few percent: enough for a slip in it to show, not enough for the steps to run away.
PICTURE_SD = 8.0

# name, kernel, inputs that one kernel sees, kernels, stride, padding on each side, groups, LRN, pool
CONVS = [
    ("conv1", 5, 3, 8, 2, 0, 1, True, True),
    ("conv2", 5, 4, 16, 1, 2, 2, True, True),
    ("conv3", 3, 16, 24, 1, 1, 1, False, False),
    ("conv4", 3, 12, 24, 1, 1, 2, False, False),
    ("conv5", 3, 12, 16, 1, 1, 2, False, True),
]
# name, inputs (fc6: 2x2 positions of 16 channels), units, factor that keeps activations and steps of a moderate size
DENSES = [("fc6", 64, HIDDEN, 0.25), ("fc7", HIDDEN, HIDDEN, 0.5), ("fc8", HIDDEN, CLASSES, 0.5)]


def initial_parameters():
    """He's weights, and biases that are nowhere zero. Names and order of the merged network."""
    parameters = {}
    for name, kernel, inputs, kernels, *_ in CONVS:
        fan_in = kernel * kernel * inputs
        parameters[f"{name}.weight"] = normal((kernel, kernel, inputs, kernels), math.sqrt(2 / fan_in))
        parameters[f"{name}.bias"] = exact(rng.uniform(0.05, 0.5, kernels), grad=True)
    for name, inputs, units, factor in DENSES:
        parameters[f"{name}.weight"] = normal((inputs, units), factor * math.sqrt(2 / inputs))
        parameters[f"{name}.bias"] = exact(rng.uniform(0.05, 0.5, units), grad=True)
    return parameters


def forward(parameters, images, masks=None, margins=None):
    """Logits [N, K]. With masks: training, hidden units times their mask. Without: testing, hidden units times 1 - DROPOUT."""

    def rectify(z):
        if margins is not None:
            margins.append(z.detach().abs().min().item() / z.detach().abs().mean().item())
        return F.relu(z)

    def norm(x):
        return torch.cat([response_norm(half) for half in x.chunk(2, dim=-1)], dim=-1)

    def pool(x):
        if margins is not None:
            n, h, w, c = x.shape
            windows = F.unfold(x.detach().permute(0, 3, 1, 2), 3, stride=2).reshape(n, c, 9, -1)
            best, second = windows.topk(2, dim=2).values.unbind(2)
            margins.append((best - second)[best > 0].min().item() / best.mean().item())
        return max_pool(x)

    x = images
    for name, _, _, _, stride, padding, groups, has_norm, has_pool in CONVS:
        x = rectify(conv(x, parameters[f"{name}.weight"], parameters[f"{name}.bias"], stride, (padding,) * 4, groups))
        x = norm(x) if has_norm else x
        x = pool(x) if has_pool else x
    x = x.reshape(len(images), -1)
    for name, *_ in DENSES:
        x = x @ parameters[f"{name}.weight"] + parameters[f"{name}.bias"]
        if name != "fc8":
            x = rectify(x)
            x = x * masks[name] if masks else x * (1 - DROPOUT)
    return x


def loss_of(logits, labels):
    return F.cross_entropy(logits, labels.long())


def tiny_steps():
    """The file, and how far the nearest ReLU or pooling decision is from tipping over, relative to its layer's mean."""
    parameters = initial_parameters()
    velocities = {name: torch.zeros_like(value) for name, value in parameters.items()}
    margins = []
    file = {"parameters": {name: encode(value) for name, value in parameters.items()}, "steps": []}
    first = None
    for _ in range(STEPS):
        images = exact(rng.normal(0, PICTURE_SD, (BATCH, 51, 51, 3)))
        labels = torch.tensor(rng.integers(0, CLASSES, BATCH), dtype=torch.int32)
        masks = {name: exact(rng.random((BATCH, HIDDEN)) >= DROPOUT) for name in ("fc6", "fc7")}
        first = first or (images, labels)
        logits = forward(parameters, images, masks, margins=margins)
        loss = loss_of(logits, labels)
        grads = dict(zip(parameters, torch.autograd.grad(loss, list(parameters.values()))))
        file["steps"].append({
            "images": encode(images),
            "labels": encode(labels),
            "masks": {name: encode(mask) for name, mask in masks.items()},
            "logits": encode(logits),
            "loss": loss.item(),
            "gradientSquaredNorm": sum((g * g).sum().item() for g in grads.values()),
            "gradients": {name: encode(g) for name, g in grads.items()},
        })
        for name, w in parameters.items():
            stepped, velocities[name] = update(w.detach(), velocities[name], grads[name], LR, MOMENTUM, WEIGHT_DECAY, 1)
            parameters[name] = stepped.requires_grad_()
    logits = forward(parameters, first[0])
    file["finalParameters"] = {name: encode(value) for name, value in parameters.items()}
    file["finalVelocities"] = {name: encode(value) for name, value in velocities.items()}
    file["evaluation"] = {"imagesOfStep": 0, "logits": encode(logits), "loss": loss_of(logits, first[1]).item()}
    return file, min(margins)


def steady_tiny_steps(attempts=300):
    """Tries a few draws and keeps the steadiest: float32 must not turn a ReLU on, or pick another pixel, where float64 does not."""
    global rng
    best = None
    for attempt in range(attempts):
        rng = np.random.default_rng([SEED, attempt])
        file, margin = tiny_steps()
        if best is None or margin > best[1]:
            best = (file, margin, attempt)
    file, margin, attempt = best
    settings = {
        "network": "tiny",
        "classes": CLASSES,
        "lr": LR,
        "momentum": MOMENTUM,
        "weightDecay": WEIGHT_DECAY,
        "dropout": DROPOUT,
        "dropoutForm": "paper",
        "draw": attempt,
        "decisionMargin": margin,
    }
    return {"header": header(**settings), **file}


def write(name, content):
    path = GOLDEN / name
    shapes_on_one_line = re.sub(r"\[\s+((?:\d+,\s+)*\d+)\s+\]", lambda m: f"[{' '.join(m[1].split())}]", json.dumps(content, indent=1))
    path.write_text(shapes_on_one_line + "\n")
    print(f"test/golden/{name}: {path.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    torch.set_num_threads(1)
    GOLDEN.mkdir(parents=True, exist_ok=True)
    write("layers.json", {"header": header(), "cases": layers()})
    write("tiny-steps.json", steady_tiny_steps())
