"""The suite's font: capitals and digits on a 5x5 grid, so that no font library or its version changes a pixel."""

from functools import cache

from PIL import Image

SIDE = 5  # px of a glyph at scale 1
PITCH = 6  # px from glyph to glyph
_ROWS = {
    "E": "##### #.... ####. #.... #####",
    "F": "##### #.... ####. #.... #....",
    "G": ".#### #.... #..## #...# .####",
    "H": "#...# #...# ##### #...# #...#",
    "J": "..### ...#. ...#. #..#. .##..",
    "K": "#..#. #.#.. ##... #.#.. #..#.",
    "L": "#.... #.... #.... #.... #####",
    "M": "#...# ##.## #.#.# #...# #...#",
    "N": "#...# ##..# #.#.# #..## #...#",
    "P": "####. #...# ####. #.... #....",
    "R": "####. #...# ####. #..#. #...#",
    "S": ".#### #.... .###. ....# ####.",
    "T": "##### ..#.. ..#.. ..#.. ..#..",
    "V": "#...# #...# .#.#. .#.#. ..#..",
    "W": "#...# #...# #.#.# ##.## #...#",
    "X": "#...# .#.#. ..#.. .#.#. #...#",
    "0": ".###. #..## #.#.# ##..# .###.",
    "1": "..#.. .##.. ..#.. ..#.. .###.",
    "2": "####. ....# .###. #.... #####",
    "3": "####. ....# ..##. ....# ####.",
    "4": "#..#. #..#. ##### ...#. ...#.",
    "5": "##### #.... ####. ....# ####.",
    "6": ".###. #.... ####. #...# .###.",
    "7": "##### ....# ...#. ..#.. ..#..",
    "8": ".###. #...# .###. #...# .###.",
    "9": ".###. #...# .#### ....# .###.",
}


@cache
def glyph(character: str, scale: int) -> Image.Image:
    """Return a character as a 0/255 mask of 5 * scale px a side.

    Raises:
        KeyError: a character that the font does not have.
    """
    pixels = bytes(255 * (dot == "#") for dot in _ROWS[character].replace(" ", ""))
    side = SIDE * scale
    return Image.frombytes("L", (SIDE, SIDE), pixels).resize((side, side), Image.Resampling.NEAREST)
