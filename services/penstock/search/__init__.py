"""Search: documents indexed from events, found by words and by meaning. Owns PENSTOCK_EV_SEARCH."""
