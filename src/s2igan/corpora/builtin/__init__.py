"""Built-in sets: pictures that are drawn and captions that are composed, so that every attribute is known."""
