"""From a source to a prepared store: unpack, import, check, split, speak, pack."""
