"""Real pictures, documents and sounds."""

import base64
import io
import random
import wave

from PIL import Image

FORMATS = {"JPEG": "image/jpeg", "PNG": "image/png", "WEBP": "image/webp", "GIF": "image/gif"}


def picture(kind="PNG", size=(960, 540), **options):
    body = io.BytesIO()
    # Noise, so that no picture is one run of a colour that fits into any header.
    Image.frombytes("L", size, random.Random(0).randbytes(size[0] * size[1])).convert("RGB").save(body, kind, **options)
    return body.getvalue()


def pdf(pages):
    body = io.BytesIO()
    leaves = [Image.new("RGB", (40, 60), (page, 0, 0)) for page in range(pages)]
    leaves[0].save(body, "PDF", save_all=True, append_images=leaves[1:])
    return body.getvalue()


def wav(seconds, rate=8000):
    body = io.BytesIO()
    with wave.open(body, "wb") as sound:
        sound.setnchannels(2)
        sound.setsampwidth(2)
        sound.setframerate(rate)
        sound.writeframes(bytes(4 * rate * seconds))
    return body.getvalue()


def encoded(body):
    return base64.b64encode(body).decode()
