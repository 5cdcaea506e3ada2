"""Cache: invalidation by tag and by the application's changes. Owns PENSTOCK_EV_CACHE."""
