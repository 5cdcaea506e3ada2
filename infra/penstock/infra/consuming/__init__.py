"""How messages are taken from streams: consumers kept alive, in order and in hand."""
