"""The files that pages take for granted, as small as can be: what a reader has before the page begins."""

import json
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from docpages import ROOT
from PIL import Image

SCHEMAS = """from pydantic import BaseModel


class Review(BaseModel):
    sentiment: str
    stars: int


class Price(BaseModel):
    price: float
"""


def write_files(folder: Path) -> None:
    texts = [f"Review {n}: it came in time." for n in range(50)]
    reviews = {"key": [f"r{n}" for n in range(50)], "prompt": texts}
    pq.write_table(pa.table(reviews), folder / "reviews.parquet")
    head = "id,title,body,stars,country\n"
    (folder / "reviews.csv").write_text(head + "".join(f"r{n},Good,{text},5,DE\n" for n, text in enumerate(texts)))
    (folder / "letters.jsonl").write_text("".join(json.dumps({"prompt": f"Invoice no. {n}"}) + "\n" for n in range(3)))
    (folder / "schemas.py").write_text(SCHEMAS)
    Image.new("RGB", (8, 8), "orange").save(folder / "cat.png")
    for name, colour in (("invoice1.jpg", "white"), ("invoice2.jpg", "ivory"), ("letter.pdf", "white")):
        Image.new("RGB", (60, 80), colour).save(folder / name)
    shutil.copytree(ROOT / "configs", folder / "configs")


FIRST: dict[str, tuple[str, ...]] = {
    "docs/results.md": ("submit", "reviews.parquet", "--schema", "schemas:Price", "--out", "run"),
    "docs/cli.md": ("submit", "reviews.parquet", "--schema", "schemas:Review"),
}
"""What the reader of a page has already run."""
