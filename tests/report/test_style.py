"""Colours can be told from their ground, in light and in dark."""

import re
from importlib import resources

import pytest

STYLE = (resources.files("pruneinit.report") / "style.css").read_text(encoding="utf-8")
LIGHT, DARK = (dict(re.findall(r"--([\w-]+): (#\w{6});", part)) for part in STYLE.split("@media (prefers-color-scheme"))
SERIES = [f"c{i}" for i in range(6)]


def luminance(colour):
    channels = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other):
    """After WCAG 2: 1 for equal colours, 21 for black on white."""
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_contrast_is_that_of_the_standard():
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
@pytest.mark.parametrize("name", ["ink", "soft", "link", "warn"])
@pytest.mark.parametrize("ground", ["ground", "card"])
def test_text_can_be_read(theme, name, ground):
    assert contrast(theme[name], theme[ground]) >= 4.5


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
@pytest.mark.parametrize("name", SERIES)
def test_lines_can_be_seen(theme, name):
    assert contrast(theme[name], theme["ground"]) >= 3


def test_dark_changes_every_colour():
    assert LIGHT.keys() == DARK.keys()
    assert all(LIGHT[name] != DARK[name] for name in LIGHT)
