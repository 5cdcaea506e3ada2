"""Notifications: inboxes, channels and their push to sockets. Owns PENSTOCK_EV_NOTIFICATIONS."""
