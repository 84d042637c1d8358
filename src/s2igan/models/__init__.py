"""The networks of both stages: the frozen dataclass above each one sizes it, with the paper's sizes as defaults."""
