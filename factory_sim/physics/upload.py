"""Uploads: what a request takes on the wire on its way in, images and all."""

from __future__ import annotations

TEXT_BYTES_PER_TOKEN = 4.0
"""Of English text, an estimate for any other: a token is about four letters (OpenAI, "What are
tokens and how to count them?", help.openai.com/articles/4936856), each a byte of UTF-8."""

BASE64 = 4.0 / 3.0
"""Bytes of base64 for one of a file (RFC 4648, section 4): images come as data URLs inside the JSON
of a request to an API like OpenAI's."""


def upload_bytes(text_tokens: float, images: float, image_bytes: float) -> float:
    """Return the bytes that a request sends: its whole prompt, headers left out.

    text_tokens: of the prompt, those that a cache has as well, as the API keeps no state.
    image_bytes: of the file of one image.
    """
    return TEXT_BYTES_PER_TOKEN * text_tokens + BASE64 * images * image_bytes
