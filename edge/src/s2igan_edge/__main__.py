"""`python -m s2igan_edge` is `s2igan-edge`."""

from s2igan_edge.cli import main

if __name__ == "__main__":
    main()
