"""The frame that all six services stand on: settings, bus, event log, views, HTTP. No domain."""
