"""Questions about a scene, by the six benchmarks: each with answer, evidence, and whether the low-res view suffices."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field

from lmms_awares.mini import scenes
from lmms_awares.mini.drawing import CHOICES, COLOURS, DIGITS, SHAPES, Item, Scene

Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class Question:
    """A question about a scene.

    Attributes:
        text: the question, without options.
        answer: the answer in words; for multiple choice one of `options`.
        kind: name of its sort within the benchmark.
        read: items whose text must be read to answer.
        options: multiple choice, in the order shown; the same in all questions of a kind, as finding the right one
            among shuffled options is more than the tiny model learns.
    """

    text: str
    answer: str
    kind: str
    read: tuple[Item, ...] = ()
    options: tuple[str, ...] = field(default=())

    @property
    def letter(self) -> str:
        """The right option's letter."""
        return "ABCD"[self.options.index(self.answer)]

    @property
    def suffices(self) -> bool:
        """True where the low-res view is enough: no fine print must be read."""
        return not any(item.fine for item in self.read)

    @property
    def uncertain(self) -> bool:
        """True where the low-res view shows all that must be read, some of it in part."""
        return not self.suffices and all(item.legibility for item in self.read if item.fine)

    @property
    def box(self) -> Box:
        """(left, top, right, bottom) px around the slots of all items to read.

        Raises:
            ValueError: nothing must be read.
        """
        lefts, tops, rights, bottoms = zip(*(item.slot_box for item in self.read), strict=True)
        return min(lefts), min(tops), max(rights), max(bottoms)

    @property
    def evidence(self) -> Box | None:
        """(left, top, right, bottom) px around the slots of all items to read; None where none is fine print."""
        return None if self.suffices else self.box


Asker = Callable[[random.Random, Scene], Question]


def chart_value(generator: random.Random, scene: Scene) -> Question:
    """Ask for the number above a bar."""
    bar = generator.choice(scene.items)
    return Question(f"What is the value of bar {bar.symbol}?", bar.text, "value", (bar,))


def chart_colour(generator: random.Random, scene: Scene) -> Question:
    """Ask for a bar's colour."""
    bar = generator.choice(scene.items)
    return Question(f"What is the color of bar {bar.symbol}?", bar.colour, "colour")


def page_code(generator: random.Random, scene: Scene) -> Question:
    """Ask for a field's code."""
    entry = generator.choice(scene.items)
    return Question(f"What is the code of field {entry.symbol}?", entry.text, "code", (entry,))


def page_codes(generator: random.Random, scene: Scene) -> Question:
    """Ask for two fields' codes, in the order asked."""
    first, second = generator.sample(scene.items, 2)
    text = f"What are the codes of fields {first.symbol} and {second.symbol}?"
    return Question(text, f"{first.text} {second.text}", "codes", (first, second))


def line_text(generator: random.Random, scene: Scene) -> Question:
    """Ask for the text in a frame, or for the only text."""
    line = generator.choice(scene.items)
    text = f"what is written in the frame in {line.colour}?" if line.symbol else "what is written in the image?"
    return Question(text, " ".join(line.groups), "framed" if line.symbol else "alone", (line,))


def presence(generator: random.Random, scene: Scene) -> Question:
    """Ask whether a coloured shape is there; an absent one shares colour or shape with one that is present."""
    there = {(item.colour, item.symbol) for item in scene.items}
    if generator.random() < 0.5:
        colour, shape = generator.choice(sorted(there))
        return Question(f"Is there a {shape} in {colour}?", "yes", "presence")
    near = [
        (colour, shape)
        for colour in COLOURS
        for shape in SHAPES
        if (colour, shape) not in there and any(colour == c or shape == s for c, s in there)
    ]
    colour, shape = generator.choice(near)
    return Question(f"Is there a {shape} in {colour}?", "no", "presence")


def digit_presence(generator: random.Random, scene: Scene) -> Question:
    """Ask whether a digit, and not a letter, stands beside a shape."""
    item = generator.choice(scene.items)
    text = f"Is there a digit beside the {item.symbol} in {item.colour}?"
    return Question(text, "yes" if item.text in DIGITS else "no", "digit", (item,))


def plate_number(generator: random.Random, scene: Scene) -> Question:
    """Ask for the number beside a shape."""
    item = generator.choice(scene.items)
    return Question(f"What number is beside the {item.symbol} in {item.colour}?", item.text, "number", (item,))


def shape_colour(generator: random.Random, scene: Scene) -> Question:
    """Ask for the colour of the only shape of its sort; where no sort has one shape only, for a number."""
    names = [item.symbol for item in scene.items]
    single = [item for item in scene.items if names.count(item.symbol) == 1]
    if not single:
        return plate_number(generator, scene)
    item = generator.choice(single)
    return Question(f"What is the color of the {item.symbol}?", item.colour, "colour")


def plate_letter(generator: random.Random, scene: Scene) -> Question:
    """Ask for the letter beside a shape, one of four options."""
    item = generator.choice(scene.items)
    text = f"What letter is beside the {item.symbol} in {item.colour}?"
    return Question(text, item.text, "letter", (item,), CHOICES)


def half(generator: random.Random, scene: Scene) -> Question:
    """Ask whether a shape lies in the left or the right half."""
    item = generator.choice(scene.items)
    side = "left" if item.column < scene.slots[1] // 2 else "right"
    text = f"In which half of the image is the {item.symbol} in {item.colour}?"
    return Question(text, side, "half", options=("left", "right"))


@dataclass(frozen=True)
class Benchmark:
    """Scenes and questions of one mini benchmark.

    Attributes:
        draw: (generator, size) -> scene.
        sizes: picture sizes in px.
        askers: question makers with their weights.
    """

    draw: Callable[[random.Random, scenes.Size], Scene]
    sizes: tuple[scenes.Size, ...]
    askers: tuple[tuple[Asker, float], ...]

    def ask(self, generator: random.Random, scene: Scene) -> Question:
        """Ask a random question about a scene."""
        makers, weights = zip(*self.askers, strict=True)
        return generator.choices(makers, weights)[0](generator, scene)

    def sample(self, generator: random.Random, *, graded: bool = False) -> tuple[Scene, Question]:
        """Draw a random scene with a question; with `graded`, some of its fine print is faint."""
        scene = self.draw(generator, generator.choice(self.sizes))
        if graded:
            scene = scenes.graded(generator, scene)
        return scene, self.ask(generator, scene)


def _numbered(generator: random.Random, size: scenes.Size) -> Scene:
    return scenes.shapes(generator, size, scenes.number)


def _marked(generator: random.Random, size: scenes.Size) -> Scene:
    return scenes.shapes(generator, size, scenes.character)


def _tiny(generator: random.Random, size: scenes.Size) -> Scene:
    return scenes.shapes(generator, size, scenes.choice, tiny=True)


BENCHMARKS: dict[str, Benchmark] = {
    "chartqa": Benchmark(scenes.chart, scenes.SIZES, ((chart_value, 0.8), (chart_colour, 0.2))),
    "docvqa_val": Benchmark(scenes.page, scenes.SIZES, ((page_code, 0.65), (page_codes, 0.35))),
    "ocrbench": Benchmark(scenes.labels, scenes.SIZES, ((line_text, 1.0),)),
    "pope": Benchmark(_marked, scenes.SIZES, ((presence, 0.35), (digit_presence, 0.65))),
    "realworldqa": Benchmark(_numbered, scenes.SIZES, ((plate_number, 0.8), (shape_colour, 0.2))),
    "vstar_bench": Benchmark(_tiny, scenes.WIDE_SIZES, ((plate_letter, 0.8), (half, 0.2))),
}
