"""Somebody's image to RGB: modes, formats, and what must be refused."""

import io
import subprocess

import numpy as np
import pytest
from PIL import Image, ImageFile, ImageOps

from lmms_awares.images import decode, digest, from_pillow, to_rgb


def noisy(mode, size=(37, 21)):
    bands = len(Image.new(mode, (1, 1)).getbands())
    values = np.random.default_rng(0).integers(0, 256, (size[1], size[0], bands), dtype=np.uint8)
    return Image.fromarray(values.squeeze(), mode)


def encoded(image, kind="PNG", **options):
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "1", "P", "CMYK"])
def test_to_rgb_is_that_of_qwens_loader(mode):
    from qwen_vl_utils.vision_process import to_rgb as loaders

    image = noisy(mode) if mode in ("RGB", "RGBA", "L", "CMYK") else noisy("RGB").convert(mode)
    assert to_rgb(image).mode == "RGB"
    assert to_rgb(image).tobytes() == loaders(image).tobytes()


def test_sixteen_bit_grey_is_scaled_not_cut():
    """Pillow's own conversion makes everything above 255 white."""
    image = Image.fromarray(np.array([[0, 257, 32896, 65535]], dtype=np.uint16))
    for stored in (encoded(image), encoded(image, "TIFF"), encoded(image, "PPM")):
        assert np.asarray(decode(stored))[0].tolist() == [[0] * 3, [1] * 3, [128] * 3, [255] * 3]


def test_transparency_is_white_in_every_mode():
    clear = Image.new("RGBA", (4, 4), (10, 20, 30, 0))
    palette = Image.new("P", (4, 4), 0)
    palette.putpalette([10, 20, 30])
    images = {
        "RGBA": encoded(clear),
        "LA": encoded(clear.convert("LA")),
        "P": encoded(palette, transparency=0),
        "RGB": encoded(clear.convert("RGB"), transparency=(10, 20, 30)),
        "GIF": encoded(palette, "GIF", transparency=0),
    }
    for mode, stored in images.items():
        assert decode(stored).getpixel((0, 0)) == (255, 255, 255), mode


@pytest.mark.parametrize("mode", ["I", "F"])
def test_pixels_of_unknown_range_are_refused(mode):
    with pytest.raises(OSError, match="save it with 8 bits"):
        decode(encoded(Image.new(mode, (2, 2), 70000), "TIFF"))


def test_no_other_program_is_started(monkeypatch):
    """Pillow opens EPS by starting Ghostscript."""

    def started(*args, **kwargs):
        raise AssertionError("another program was started")

    monkeypatch.setattr(subprocess, "Popen", started)
    with pytest.raises(OSError, match="no raster format"):
        decode(encoded(Image.new("RGB", (4, 4)), "EPS"))


def test_a_truncated_image_is_refused_whatever_pillow_was_told(monkeypatch):
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    with pytest.raises(OSError, match="cannot be read"):
        decode(encoded(noisy("RGB"))[:-300])
    assert ImageFile.LOAD_TRUNCATED_IMAGES


def test_upright_as_the_camera_says():
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: a quarter turn
    assert decode(encoded(noisy("RGB", (40, 20)), "JPEG", exif=exif)).size == (20, 40)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_opened_photo_is_as_upright_as_its_file(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = encoded(noisy("RGB", (40, 20)), exif=exif)
    upright = decode(stored)
    opened = Image.open(io.BytesIO(stored))
    assert from_pillow(opened).tobytes() == upright.tobytes()
    assert (upright.tobytes() == opened.tobytes()) == (orientation == 1)
    again = ImageOps.exif_transpose(Image.open(io.BytesIO(stored)))  # `datasets` has turned it already
    assert from_pillow(again).tobytes() == upright.tobytes()


def test_wide_integers_of_eight_bits_are_not_scaled():
    """Mode `I` says nothing of its range; a format that holds 16 bits does."""
    grey = noisy("L")
    assert from_pillow(grey.convert("I")).tobytes() == grey.convert("RGB").tobytes()
    assert decode(encoded(grey.convert("I"), "TIFF")).tobytes() == grey.convert("RGB").tobytes()
    dark = encoded(Image.fromarray(np.array([[0, 200, 255]], dtype=np.uint16)), "PPM")
    for read in (decode(dark), from_pillow(Image.open(io.BytesIO(dark)))):
        assert np.asarray(read)[0].tolist() == [[0] * 3, [1] * 3, [1] * 3]
    wide = Image.fromarray(np.array([[0, 256, 65535]], dtype=np.int32))
    assert np.asarray(from_pillow(wide))[0].tolist() == [[0] * 3, [1] * 3, [255] * 3]


def test_digest_tells_pixels_not_files():
    image = noisy("RGB")
    assert digest(decode(encoded(image))) == digest(decode(encoded(image, "BMP"))) == digest(image)
    changed = image.copy()
    changed.putpixel((0, 0), (0, 0, 0))
    assert len({digest(image), digest(changed), digest(image.transpose(Image.Transpose.FLIP_LEFT_RIGHT))}) == 3


@pytest.mark.parametrize("error", [OSError("truncated"), AssertionError(), KeyError("tile"), MemoryError()], ids=repr)
def test_an_opened_image_that_cannot_be_loaded(monkeypatch, error):
    """Stock tasks hand over images that Pillow has opened and not yet read."""
    image = Image.open(io.BytesIO(encoded(noisy("P"))))
    monkeypatch.setattr(image, "load", lambda: (_ for _ in ()).throw(error))
    with pytest.raises(OSError, match="the image cannot be read: ."):
        from_pillow(image)


def test_an_opened_image_is_read_as_its_file():
    grey = Image.fromarray(np.array([[0, 257, 32896, 65535]], dtype=np.uint16))
    for stored in (encoded(grey), encoded(noisy("RGBA")), encoded(noisy("L"))):
        assert from_pillow(Image.open(io.BytesIO(stored))).tobytes() == decode(stored).tobytes()
