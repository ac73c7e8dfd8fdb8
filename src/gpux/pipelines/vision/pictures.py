"""Pictures in JSON."""

from __future__ import annotations

import base64
import io

from PIL import Image


def grey_png(picture: Image.Image) -> str:
    """A picture as a PNG file in base64, the form in which the Hub's inference API sends masks."""
    stream = io.BytesIO()
    picture.save(stream, format="PNG")
    return base64.b64encode(stream.getvalue()).decode("ascii")
