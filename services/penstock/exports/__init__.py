"""Exports: documents rendered to files, from events. Owns PENSTOCK_EV_EXPORTS."""
