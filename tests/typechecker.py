"""beartype as the checker of every signature in s2igan; int passes for float, as it does for static checkers."""

from beartype import BeartypeConf, beartype

check = beartype(conf=BeartypeConf(is_pep484_tower=True))
