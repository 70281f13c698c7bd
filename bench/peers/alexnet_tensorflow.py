#!/usr/bin/env python3
"""The same two-tower network and training step in TensorFlow's own Python, to measure crosstower against: graph mode, one process.

A grouped layer is one grouped convolution, LRN stays inside a tower, crossing layers see both towers. Every choice is
the one that was fastest for TensorFlow; the pictures are already in memory and the classes do not matter.

    pip install -r requirements-tensorflow.txt
    python alexnet_tensorflow.py --threads 2 --json            # one JSON line
    python alexnet_tensorflow.py --threads 2 --serve           # rounds on command, to alternate with another process:
        prints {"ready": true, ...}; then `run N` answers {"stepMs": [N times]}, and `quit` or the end of input ends it

Shapes: N pictures, H x W positions, C channels; everything NHWC and HWIO.
"""

import argparse
import json
import os
import statistics
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf

# input size (224 and 3 more rows and columns for alexnet), kernels of conv1-5, units of fc6 and fc7, classes
NETWORKS = {
    "alexnet": (227, (96, 256, 384, 384, 256), 4096, 1000),
    "compact": (67, (24, 64, 96, 96, 64), 512, 10),
}
LR, MOMENTUM, WEIGHT_DECAY, DROPOUT = 0.01, 0.9, 5e-4, 0.5
K, RADIUS, ALPHA, BETA = 2.0, 2, 1e-4, 0.75


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--network", choices=NETWORKS, default="alexnet")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--warmup", type=int, default=3)
    parser.add_argument("--lrn", choices=["banded", "native"], default="banded", help="a banded matmul, or TensorFlow's own op")
    parser.add_argument("--serve", action="store_true", help="run rounds on command from standard input")
    parser.add_argument("--json", action="store_true", help="one JSON line instead of a sentence")
    return parser.parse_args()


# ---- the network ----------------------------------------------------------------------------------------------------------------


def pool(x):
    return tf.nn.max_pool2d(x, 3, 2, "VALID")


def native_norm(x):
    """LRN inside each tower, with the op that TensorFlow has for it."""
    return tf.concat([tf.nn.local_response_normalization(half, RADIUS, K, ALPHA, BETA) for half in tf.split(x, 2, axis=3)], axis=3)


def banded_norm(channels):
    """The same function over both towers at once: the sum over neighbouring maps is a matmul with a C x C matrix of two bands."""
    index = np.arange(channels)
    near = abs(index[:, None] - index[None, :]) <= RADIUS
    same_tower = (index[:, None] < channels // 2) == (index[None, :] < channels // 2)
    band = tf.constant(near & same_tower, tf.float32)

    def over_neighbours(x):
        return tf.reshape(tf.matmul(tf.reshape(x, [-1, channels]), band), tf.shape(x))

    @tf.custom_gradient
    def norm(x):
        u = K + ALPHA * over_neighbours(x * x)
        root = tf.math.rsqrt(u)
        scale = root * tf.sqrt(root)  # u^-0.75

        def backward(dy):
            return dy * scale - (2 * ALPHA * BETA) * x * over_neighbours(dy * x * scale * root * root)

        return x * scale, backward

    return norm


class Network:
    def __init__(self, name, lrn):
        self.size, kernels, hidden, self.classes = NETWORKS[name]
        c1, c2, c3, c4, c5 = kernels
        maps = self.size
        for kernel, stride in ((11, 4), (3, 2), (3, 2), (3, 2)):  # conv1 and three poolings; the other layers keep the size
            maps = (maps - kernel) // stride + 1
        shapes = [
            *[(11, 11, 3, c1), (5, 5, c1 // 2, c2), (3, 3, c2, c3), (3, 3, c3 // 2, c4), (3, 3, c4 // 2, c5)],
            *[(maps * maps * c5, hidden), (hidden, hidden), (hidden, self.classes)],
        ]
        self.weights = [tf.Variable(tf.random.normal(shape, 0, 0.01)) for shape in shapes]
        self.biases = [tf.Variable(tf.zeros(shape[-1])) for shape in shapes]
        self.variables = self.weights + self.biases
        self.norms = [native_norm, native_norm] if lrn == "native" else [banded_norm(c1), banded_norm(c2)]

    def conv(self, x, layer, stride=1, padding="SAME"):
        """Grouped where the kernels see half of the maps of x."""
        return tf.nn.relu(tf.nn.bias_add(tf.nn.conv2d(x, self.weights[layer], stride, padding), self.biases[layer]))

    def dense(self, x, layer):
        return tf.nn.bias_add(tf.matmul(x, self.weights[layer]), self.biases[layer])

    def logits(self, x):
        x = pool(self.norms[0](self.conv(x, 0, 4, "VALID")))
        x = pool(self.norms[1](self.conv(x, 1)))
        x = self.conv(x, 2)
        x = self.conv(x, 3)
        x = pool(self.conv(x, 4))
        x = tf.reshape(x, [x.shape[0], -1])
        x = tf.nn.dropout(tf.nn.relu(self.dense(x, 5)), DROPOUT)
        x = tf.nn.dropout(tf.nn.relu(self.dense(x, 6)), DROPOUT)
        return self.dense(x, 7)


def training_step(network):
    velocities = [tf.Variable(tf.zeros_like(variable)) for variable in network.variables]

    @tf.function
    def step(images, labels):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, network.logits(images)))
        for w, v, g in zip(network.variables, velocities, tape.gradient(loss, network.variables)):
            # One pass over the memory: v <- momentum v - lr (decay w + g), w <- w + v.
            tf.raw_ops.ResourceApplyKerasMomentum(var=w.handle, accum=v.handle, lr=LR, grad=g + WEIGHT_DECAY * w, momentum=MOMENTUM)
        return loss

    return step


# ---- the measurement ------------------------------------------------------------------------------------------------------------


def timed(step, count):
    """Milliseconds of each of `count` steps, every one waited for."""
    times = []
    for _ in range(count):
        start = time.perf_counter()
        step().numpy()
        times.append(round((time.perf_counter() - start) * 1000, 3))
    return times


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
    tf.config.threading.set_intra_op_parallelism_threads(options.threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    network = Network(options.network, options.lrn)
    images = tf.random.normal((options.batch, network.size, network.size, 3))
    labels = tf.random.uniform((options.batch,), 0, network.classes, tf.int32)
    train = training_step(network)
    step = lambda: train(images, labels)
    timed(step, options.warmup)
    about = {"framework": "TensorFlow", "version": tf.__version__, "network": options.network, "batch": options.batch,
             "threads": options.threads, "lrn": options.lrn}
    if options.serve:
        return serve(step, about)
    times = timed(step, options.steps)
    median = statistics.median(times)
    result = {**about, "imagesPerSecond": round(options.batch / median * 1000, 2), "stepMsMedian": round(median, 3), "stepMs": times}
    if options.json:
        print(json.dumps(result))
    else:
        print(f"TensorFlow {tf.__version__}, {options.network}: {result['imagesPerSecond']} images/s, median step {median:.1f} ms")


if __name__ == "__main__":
    main()
