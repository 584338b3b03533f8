"""Pages of a PDF as pictures, which prompts can hold. Needs the extra `pdf` (pypdfium2: PDFium, BSD and Apache 2.0).

In: a file. Out: a picture per page, as a reader shows it.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from gemini_batch.errors import BadInput

if TYPE_CHECKING:
    from PIL.Image import Image

POINTS_PER_INCH = 72
"""A PDF's unit of length (ISO 32000, user space)."""

MAX_PIXELS = 178_956_970
"""Of one page: twice pillow's `MAX_IMAGE_PIXELS`, where it takes a picture for an attack."""

_PDFIUM = Lock()
"""PDFium may be called by one thread at a time (pypdfium2, "Thread incompatibility")."""


def pdf_pages_to_images(
    pdf_path: str | os.PathLike[str],
    dpi: int = 200,
    max_pages: int | None = None,
    start_page: int = 1,
    grayscale: bool = False,
    display: bool = False,
    crop_sides: int = 0,
) -> list["Image"]:
    """Render pages of a PDF.

    Args:
        dpi: pixels per inch of the page's own size.
        max_pages: how many at most; None for all.
        start_page: the first one, from 1.
        grayscale: without colours.
        display: show each page on the screen as well.
        crop_sides: pixels to cut off on the left and on the right; a page that is too narrow is left whole.

    Returns:
        A `PIL.Image` per page, in order; empty if the document ends before `start_page`.

    Raises:
        BadInput: the extra is not installed, or the file is missing, no PDF, locked by a password, or a page too large.
    """
    if dpi <= 0 or start_page < 1 or (max_pages is not None and max_pages < 0) or crop_sides < 0:
        raise BadInput(
            "dpi has to be above 0, start_page at least 1, max_pages and crop_sides not negative "
            f"(got dpi={dpi}, start_page={start_page}, max_pages={max_pages}, crop_sides={crop_sides})"
        )
    pictures = []
    with _PDFIUM, _opened(Path(pdf_path)) as document:
        stop = len(document) if max_pages is None else min(len(document), start_page - 1 + max_pages)
        for number in range(start_page - 1, stop):
            pictures.append(_picture(document[number], f"{pdf_path}, page {number + 1}", dpi, grayscale, crop_sides))
    if display:
        for picture in pictures:
            picture.show()
    return pictures


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        import pypdfium2  # noqa: PLC0415 - an extra that most do without
    except ImportError:
        raise BadInput('PDF pages need pypdfium2: pip install "gemini-batch-dist[pdf]"') from None
    if not path.is_file():
        raise BadInput(f"{path}: there is no such file")
    try:
        document = pypdfium2.PdfDocument(path)
    except pypdfium2.PdfiumError as error:
        raise BadInput(f"{path} is not a PDF that can be read: {error}") from None
    try:
        yield document
    finally:
        document.close()


def _picture(page: Any, where: str, dpi: int, grayscale: bool, crop_sides: int) -> "Image":
    scale = dpi / POINTS_PER_INCH
    width, height = (side * scale for side in page.get_size())
    if width * height > MAX_PIXELS:
        raise BadInput(f"{where} has {width:,.0f} x {height:,.0f} pixels at {dpi} dpi; give a smaller dpi")
    picture: Image = page.render(scale=scale, grayscale=grayscale).to_pil()
    page.close()
    if 0 < 2 * crop_sides < picture.width:
        return picture.crop((crop_sides, 0, picture.width - crop_sides, picture.height))
    return picture
