"""Write a tiny detection dataset: coloured boxes on noise, 64x64, two classes.

Runs under the trainer's interpreter: ``tiny_dataset.py FOLDER TRAIN_IMAGES``.
"""

import json
import random
import sys
from pathlib import Path

import numpy as np
from PIL import Image

SIDE = 64
COLOURS = [(220, 40, 40), (40, 200, 60)]


def main(root: Path, train_images: int) -> None:
    """Write images, labels and data.yaml."""
    rng = random.Random(0)
    for split, count in (("train", train_images), ("val", 4)):
        images, labels = root / "images" / split, root / "labels" / split
        images.mkdir(parents=True, exist_ok=True)
        labels.mkdir(parents=True, exist_ok=True)
        for number in range(count):
            image, boxes = draw(rng)
            Image.fromarray(image).save(images / f"{number:03d}.png")
            (labels / f"{number:03d}.txt").write_text("\n".join(boxes) + "\n")
    data = {"path": str(root), "train": "images/train", "val": "images/val"}
    # JSON is YAML.
    (root / "data.yaml").write_text(json.dumps({**data, "nc": 2, "names": ["red", "green"]}))


def draw(rng):
    """Return an image and its boxes in YOLO's label format: class, centre and size in fractions."""
    noise = np.random.RandomState(rng.randrange(1 << 30)).randint(90, 120, (SIDE, SIDE, 3))
    image, boxes = noise.astype("uint8"), []
    for _ in range(rng.randint(1, 3)):
        kind, w, h = rng.randrange(2), rng.randint(14, 30), rng.randint(14, 30)
        x, y = rng.randint(0, SIDE - 1 - w), rng.randint(0, SIDE - 1 - h)
        image[y : y + h, x : x + w] = COLOURS[kind]
        centre = f"{(x + w / 2) / SIDE:.6f} {(y + h / 2) / SIDE:.6f}"
        boxes.append(f"{kind} {centre} {w / SIDE:.6f} {h / SIDE:.6f}")
    return image, boxes


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
