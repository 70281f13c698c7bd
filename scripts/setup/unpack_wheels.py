"""unpack_wheels.py FOLDER WHEEL...: takes the native parts out of TensorFlow's, NVIDIA's and Pillow's wheels, in their own layout.

Every file is compared with the SHA-256 that the wheel's RECORD states. A wheel is deleted as soon as it is unpacked, so
that wheels and their contents never fill the disk together. The last line on standard output is a JSON object that maps
each shared library to its size.
"""

import base64
import csv
import hashlib
import io
import json
import os
import re
import sys
import zipfile

WANTED = re.compile(
    r"tensorflow/libtensorflow_(cc|framework)\.so\.2$"
    r"|tensorflow/include/"
    r"|nvidia/[^/]+/lib/.*\.so"
    r"|nvidia/cuda_nvcc/(bin|nvvm)/"
    r"|pillow\.libs/libjpeg-.*\.so"
)
CHUNK_BYTES = 1 << 20


def unpack(wheel, folder, libraries):
    with zipfile.ZipFile(wheel) as archive:
        hashes = recorded_hashes(archive)
        for member in archive.infolist():
            if member.is_dir() or not WANTED.match(member.filename):
                continue
            target = os.path.join(folder, member.filename)
            os.makedirs(os.path.dirname(target), exist_ok=True)
            digest = hashlib.sha256()
            with archive.open(member) as source, open(target, "wb") as copy:
                while chunk := source.read(CHUNK_BYTES):
                    digest.update(chunk)
                    copy.write(chunk)
            stated = base64.urlsafe_b64encode(digest.digest()).rstrip(b"=").decode()
            if hashes.get(member.filename) != f"sha256={stated}":
                sys.exit(f"{member.filename} is not what {os.path.basename(wheel)} says it should be")
            os.chmod(target, 0o755 if (member.external_attr >> 16) & 0o100 else 0o644)
            if ".so" in os.path.basename(target):
                libraries[member.filename] = member.file_size


def recorded_hashes(archive):
    record = next(name for name in archive.namelist() if name.endswith(".dist-info/RECORD"))
    rows = csv.reader(io.TextIOWrapper(archive.open(record), encoding="utf-8"))
    return {path: digest for path, digest, _ in rows}


def main():
    folder, *wheels = sys.argv[1:]
    libraries = {}
    for wheel in wheels:
        unpack(wheel, folder, libraries)
        os.remove(wheel)
    print(json.dumps(libraries))


main()
