"""How an aggregate ends: erased for good, or moved to the archive when its time is over."""
