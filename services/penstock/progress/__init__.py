"""Progress: how far work is, stage by stage. Owns PENSTOCK_EV_PROGRESS."""
