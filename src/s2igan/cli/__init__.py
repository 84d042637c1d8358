"""The command line. Each sub-command parses, then makes one library call; what is heavy is imported only by then.

A file for each kind of command (`corpora`, `training`, `using`, `scoring`); `options` has the options that they share.
"""

from s2igan.cli.program import main

__all__ = ["main"]
