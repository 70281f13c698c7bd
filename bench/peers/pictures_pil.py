#!/usr/bin/env python3
"""Reads, decodes, crops and flips JPEG pictures as torchvision's image folder does with its default loader, PIL, to measure crosstower against.

    pip install -r requirements-pil.txt
    python pictures_pil.py --folder FOLDER --crop 224      # then `run N` on standard input answers {"seconds": processor time}

torchvision itself is not needed for it: its loader is Image.open(file).convert("RGB"), RandomCrop and RandomHorizontalFlip are Pillow's crop and
transpose, and PILToTensor is one copy to an array [H,W,3].
"""

import argparse
import json
import random
import sys
import time
from pathlib import Path

import numpy as np
import PIL
from PIL import Image


def load(path, crop):
    with open(path, "rb") as file:
        picture = Image.open(file).convert("RGB")
    width, height = picture.size
    left, top = random.randint(0, width - crop), random.randint(0, height - crop)
    picture = picture.crop((left, top, left + crop, top + crop))
    if random.random() < 0.5:
        picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return np.array(picture, copy=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", required=True)
    parser.add_argument("--crop", type=int, default=224)
    args = parser.parse_args()
    paths = sorted(Path(args.folder).rglob("*.jpg"))
    random.seed(1)
    print(json.dumps({"ready": True, "version": PIL.__version__}), flush=True)
    for line in sys.stdin:
        command, _, count = line.strip().partition(" ")
        if command == "quit":
            return
        started = time.process_time()
        for i in range(int(count)):
            load(paths[i % len(paths)], args.crop)
        print(json.dumps({"seconds": time.process_time() - started}), flush=True)


if __name__ == "__main__":
    main()
