"""Pictures in the text of the page."""

import base64
import io
from pathlib import Path

from PIL import Image

from kka.common.disk import reading

THUMBNAIL, TINY = 128, 48
"""Pixels: larger pictures are reduced to the one; those up to the other are shown with their pixels as squares."""


def whole(file: Path) -> str:
    """A PNG as it is, in the text of the page."""
    with reading(file):
        return "data:image/png;base64," + base64.b64encode(file.read_bytes()).decode()


def data_uri(image: Image.Image) -> str:
    """The picture itself, in the text of the page: tiny ones without loss."""
    buffer = io.BytesIO()
    if max(image.size) <= TINY:
        image.save(buffer, format="PNG")
        return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
    image.thumbnail((THUMBNAIL, THUMBNAIL))
    image.save(buffer, format="JPEG", quality=88, subsampling=0)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
