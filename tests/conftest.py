"""Checks types and shapes in every signature of s2igan while the tests run; users do not pay for it."""

from jaxtyping import install_import_hook

install_import_hook("s2igan", "typechecker.check")
