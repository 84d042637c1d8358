"""`python -m s2igan`, which is also what torchrun starts."""

from s2igan.cli import main

if __name__ == "__main__":
    main()
