"""Birds drawn from a list of attributes."""

COLOURS: tuple[str, ...] = (
    "red", "orange", "yellow", "green", "blue", "purple", "brown", "black", "white", "grey",
)  # fmt: skip

ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "belly_colour": COLOURS,
    "wing_colour": COLOURS,
    "head_colour": COLOURS,
    "back_colour": COLOURS,
    "beak_length": ("short", "long"),
    "beak_colour": ("yellow", "orange", "red", "black", "grey"),
    "breast_pattern": ("plain", "striped", "spotted"),
    "wing_bars": ("absent", "present"),
    "tail_length": ("short", "long"),
    "habitat": ("forest", "water", "snow", "desert", "meadow", "sky"),
}
