"""Draw the photos of the tutorial: ``python examples/draw_flowers.py FOLDER``.

Three classes of flowers, each drawing different from all others, and the same drawings each time. A few files are
wrong on purpose, as in a real collection: one is damaged, one is a copy, one stands under two labels, and one has the
label of another class.
"""

import math
import random
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from PIL import Image, ImageDraw, ImageFilter

SIZE = 240  # pixels of a photo's side
SCALE = 3  # a drawing is made so much larger and then reduced, which smooths its edges
PHOTOS = 100  # of each class

Colour = tuple[int, int, int]
Place = tuple[float, float, float]
"""x and y of a flower's centre, and its radius, in pixels."""
Flower = Callable[[ImageDraw.ImageDraw, random.Random, Place], None]


def near(dice: random.Random, colour: Colour, spread: int = 22) -> Colour:
    """Return a colour that differs a little from ``colour``."""
    red, green, blue = (min(255, max(0, value + dice.randint(-spread, spread))) for value in colour)
    return red, green, blue


def petals(draw: ImageDraw.ImageDraw, dice: random.Random, place: Place, width: float, colour: Colour) -> None:
    """Draw petals around a point; ``width`` is a share of their length."""
    x, y, r = place
    turn, count = dice.uniform(0, math.tau), dice.randint(13, 24)
    for number in range(count):
        angle = turn + math.tau * number / count + dice.uniform(-0.06, 0.06)
        length = r * dice.uniform(0.88, 1.06)
        outline = []
        for step in range(25):
            along = step / 12 if step <= 12 else (24 - step) / 12
            across = math.sin(math.pi * along**0.8) * width * length * (1 if step <= 12 else -1)
            outline.append(
                (
                    x + math.cos(angle) * along * length - math.sin(angle) * across,
                    y + math.sin(angle) * along * length + math.cos(angle) * across,
                )
            )
        draw.polygon(outline, fill=near(dice, colour, 12))


def disc(draw: ImageDraw.ImageDraw, dice: random.Random, place: Place, share: float, colour: Colour) -> None:
    """Draw the centre of a flower; ``share`` is its part of the flower's radius."""
    x, y, r = place[0], place[1], place[2] * share
    draw.ellipse((x - r, y - r, x + r, y + r), fill=colour)
    for _ in range(60):
        angle, far = dice.uniform(0, math.tau), r * math.sqrt(dice.random()) * 0.95
        px, py, dot = x + math.cos(angle) * far, y + math.sin(angle) * far, r * 0.07
        draw.ellipse((px - dot, py - dot, px + dot, py + dot), fill=near(dice, colour, 30))


def daisy(draw: ImageDraw.ImageDraw, dice: random.Random, place: Place) -> None:
    """Draw white petals around a small yellow centre; some are cream."""
    colour = near(dice, dice.choice([(244, 244, 240), (246, 240, 214), (244, 216, 120)]), 8)
    petals(draw, dice, place, dice.uniform(0.11, 0.16), colour)
    disc(draw, dice, place, dice.uniform(0.24, 0.42), near(dice, dice.choice([(228, 180, 40), (196, 140, 40)])))


def sunflower(draw: ImageDraw.ImageDraw, dice: random.Random, place: Place) -> None:
    """Draw yellow petals around a large brown centre; some are pale."""
    colour = near(dice, dice.choice([(246, 190, 20), (238, 160, 20), (244, 216, 110)]), 12)
    petals(draw, dice, place, dice.uniform(0.12, 0.17), colour)
    disc(draw, dice, place, dice.uniform(0.30, 0.50), near(dice, dice.choice([(92, 56, 24), (176, 124, 40)])))


def tulip(draw: ImageDraw.ImageDraw, dice: random.Random, place: Place) -> None:
    """Draw a cup of three petals."""
    x, y, r = place
    colour = near(dice, dice.choice([(206, 40, 60), (232, 120, 150), (236, 190, 60), (240, 236, 226)]), 14)
    for side in (-1, 1, 0):
        lean = side * r * 0.42
        outline = [
            (x - r * 0.5 + lean * 0.5, y + r * 0.55),
            (x - r * 0.52 + lean, y - r * 0.2),
            (x + lean * 1.35, y - r * dice.uniform(0.85, 1.05)),
            (x + r * 0.52 + lean, y - r * 0.2),
            (x + r * 0.5 + lean * 0.5, y + r * 0.55),
            (x, y + r * 0.95),
        ]
        draw.polygon(outline, fill=near(dice, colour, 16))


def car(draw: ImageDraw.ImageDraw, dice: random.Random, place: Place) -> None:
    """Draw something that is no flower."""
    x, y, r = place
    colour = near(dice, dice.choice([(190, 30, 30), (40, 60, 160), (220, 220, 220)]))
    draw.rounded_rectangle((x - 1.4 * r, y, x + 1.4 * r, y + 0.6 * r), radius=r * 0.2, fill=colour)
    for scale, fill in ((1.0, colour), (0.8, (40, 50, 60))):
        roof = [
            (x + scale * r * across, y - scale * r * up)
            for across, up in ((-0.9, 0), (-0.6, 0.5), (0.5, 0.5), (0.9, 0))
        ]
        draw.polygon(roof, fill=fill)
    for wheel in (x - 0.8 * r, x + 0.8 * r):
        draw.ellipse((wheel - 0.3 * r, y + 0.35 * r, wheel + 0.3 * r, y + 0.95 * r), fill=(25, 25, 25))


FLOWERS: dict[str, Flower] = {"daisy": daisy, "sunflower": sunflower, "tulip": tulip}


def photo(flower: Flower, seed: int) -> Image.Image:
    """Draw one photo, the same for the same seed."""
    dice, side = random.Random(seed), SIZE * SCALE
    image = Image.new("RGB", (1, 2))
    image.putpixel((0, 0), near(dice, dice.choice([(120, 170, 220), (90, 140, 80), (190, 190, 180)]), 30))
    image.putpixel((0, 1), near(dice, (60, 110, 50)))
    image = image.resize((side, side), Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(image)
    x, y, r = (side * dice.uniform(low, high) for low, high in ((0.36, 0.64), (0.3, 0.54), (0.2, 0.36)))
    for _ in range(dice.randint(4, 12)):
        left, lean, height = side * dice.random(), side * dice.uniform(-0.1, 0.1), side * dice.uniform(0.1, 0.35)
        draw.line((left, side, left + lean, side - height), fill=near(dice, (50, 120, 40)), width=10)
    if flower is not car:
        draw.line((x, y, x + side * dice.uniform(-0.1, 0.1), side), fill=near(dice, (60, 130, 50)), width=22)
    flower(draw, dice, (x, y, r))
    image = image.resize((SIZE, SIZE), Image.Resampling.LANCZOS)
    return image.filter(ImageFilter.GaussianBlur(dice.choice([0, 0.6, 1.2, 2.2])))  # some are out of focus


def main(folder: str) -> None:
    """Write ``flowers/``, to be learned from, and ``new/``, to be asked about."""
    flowers, new = Path(folder, "flowers"), Path(folder, "new")
    for number, (name, flower) in enumerate(FLOWERS.items()):
        (flowers / name).mkdir(parents=True)
        for index in range(PHOTOS):
            photo(flower, 1000 * number + index).save(flowers / name / f"{name}-{index:02}.jpg", quality=90)
    whole = (flowers / "daisy" / "daisy-07.jpg").read_bytes()
    (flowers / "daisy" / "damaged.jpg").write_bytes(whole[: len(whole) // 20])
    shutil.copy(flowers / "tulip" / "tulip-12.jpg", flowers / "tulip" / "tulip-12 (copy).jpg")
    shutil.copy(flowers / "sunflower" / "sunflower-30.jpg", flowers / "daisy" / "daisy-100.jpg")
    photo(sunflower, 9000).save(flowers / "daisy" / "daisy-101.jpg", quality=90)
    new.mkdir()
    for number, (name, flower) in enumerate([*FLOWERS.items(), ("car", car)]):
        for index in range(2):
            photo(flower, 6000 + 100 * number + index).save(new / f"{name}-{index + 1}.jpg", quality=90)
    print(f"{3 * PHOTOS + 4} files are in {flowers}, 8 in {new}")


if __name__ == "__main__":
    main(*sys.argv[1:])
