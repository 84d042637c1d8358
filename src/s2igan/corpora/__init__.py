"""Sources of spoken captions and pictures; each file yields manifest records for one of them."""
