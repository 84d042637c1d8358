"""From a manifest of utterances to a store that training reads without copying."""
