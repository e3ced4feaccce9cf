"""Image files to upright RGB pixels, in one way for the model, the scorers and the report."""

import io
from functools import cache
from hashlib import blake2b
from pathlib import Path
from threading import Lock

import numpy as np
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError

# Raster formats that Pillow decodes by itself. EPS and PDF would start another program, WMF asks the system.
_RASTER = [
    "PNG",
    "JPEG",
    "MPO",
    "WEBP",
    "GIF",
    "BMP",
    "DIB",
    "TIFF",
    "PPM",
    "JPEG2000",
    "AVIF",
    "TGA",
    "ICO",
    "PCX",
    "SGI",
]
_EIGHT_BITS, _SIXTEEN_BITS = 255, 65535
_SIXTEEN_BIT_FORMATS = ("PNG", "PPM")  # what Pillow opens in mode `I`, some versions of it both
_STRICT = Lock()  # Pillow's leniency is one setting for all threads


def decode(source: bytes | str | Path) -> Image.Image:
    """Decode `source` (encoded bytes, or a file's path) to an upright image in 8-bit RGB.

    Raises:
        OSError: missing, truncated, or in no raster format that is read here.
    """
    with _STRICT:
        return _decode(source)


def _decode(source: bytes | str | Path) -> Image.Image:
    # lmms-eval tells Pillow to fill in what a truncated file lacks; a benchmark's image must be whole.
    lenient, ImageFile.LOAD_TRUNCATED_IMAGES = ImageFile.LOAD_TRUNCATED_IMAGES, False
    try:
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=_formats()) as image:
            image.load()
            return to_rgb(_upright(image))
    except UnidentifiedImageError:
        raise OSError("the image is in no raster format that is read here (PNG, JPEG, WebP, TIFF, …)") from None
    except Exception as error:  # Pillow's plugins raise whatever their codecs do: all of it means a broken image
        raise _broken(error) from error
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = lenient


@cache
def _formats() -> tuple[str, ...]:
    """Return the formats of `_RASTER` that this Pillow was built with."""
    Image.init()
    return tuple(name for name in _RASTER if name in Image.OPEN)


def from_pillow(image: Image.Image) -> Image.Image:
    """Return the upright pixels of a Pillow image that somebody else opened, and perhaps never loaded, in 8-bit RGB.

    Raises:
        OSError: the image cannot be loaded.
        ValueError: see `to_rgb`.
    """
    try:
        image.load()
        upright = _upright(image)
    except Exception as error:  # as in `decode`
        raise _broken(error) from error
    return to_rgb(upright)


def _upright(image: Image.Image) -> Image.Image:
    """Turn an image as its EXIF orientation says, as `datasets` does when it decodes; without the tag, a copy."""
    upright = ImageOps.exif_transpose(image)
    upright.format = image.format  # which a copy forgets, and `to_rgb` asks for
    return upright


def _broken(error: Exception) -> OSError:
    return OSError(f"the image cannot be read: {str(error) or type(error).__name__}")


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert to 8-bit RGB: transparency is laid on white, as in Qwen's own image loader; 16-bit grey is scaled.

    Raises:
        ValueError: pixels whose range is unknown (floating point, or integers beyond 16 bits).

    Example:
        >>> to_rgb(Image.new("RGBA", (1, 1), (0, 0, 0, 0))).getpixel((0, 0))
        (255, 255, 255)
    """
    image.load()  # what a lazily opened file says of itself before is not yet true
    if image.mode.startswith("I"):
        return _eight_bits(image).convert("RGB")
    if image.mode == "F":
        raise ValueError("the image has floating-point pixels, whose range is unknown; save it with 8 bits a channel")
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        page = Image.new("RGB", image.size, (255, 255, 255))
        page.paste(layer, mask=layer.getchannel("A"))
        return page
    return image.convert("RGB")


def _eight_bits(image: Image.Image) -> Image.Image:
    """Scale 16-bit grey to 8-bit grey; Pillow's own conversion would clip every value above 255.

    Mode `I` has 32 bits and says nothing of their range: it is 16-bit grey in the formats that Pillow reads it so from,
    and elsewhere where a value needs more than 8 bits.

    Raises:
        ValueError: values beyond 16 bits.
    """
    values = np.asarray(image.convert("I"))
    wide = image.mode != "I" or image.format in _SIXTEEN_BIT_FORMATS
    if values.min() < 0 or values.max() > _SIXTEEN_BITS:
        raise ValueError(
            f"the image has pixels from {values.min()} to {values.max()}, beyond 16 bits; save it with 8 bits a channel"
        )
    if wide or values.max() > _EIGHT_BITS:
        values = (values + 128) // 257
    return Image.fromarray(values.astype(np.uint8))


def digest(image: Image.Image) -> str:
    """Return 16 hex digits that tell images apart by size and RGB pixels, whatever file format they came from.

    Example:
        >>> digest(Image.new("RGB", (2, 2)))
        'b3c4d67fe603ba4a'
    """
    sha = blake2b(f"{image.mode} {image.size} ".encode(), digest_size=8)
    sha.update(image.tobytes())
    return sha.hexdigest()
