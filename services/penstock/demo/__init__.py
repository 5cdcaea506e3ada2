"""The example application: files in, transcripts, search and exports out.

Uses `penstock.client` alone.
"""
