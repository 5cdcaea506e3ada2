"""Backups of a running system, and systems made from backups.

A backup is a directory: a manifest, and for each stream the server's own snapshot of it. What is
copied in which order, and why that is enough, is in `order`. Nothing here knows what events mean.
"""

from penstock.infra.backup.here import restore_here
from penstock.infra.backup.manifest import BackupError, Manifest, Tell, check_files, read_manifest
from penstock.infra.backup.restoring import Restore
from penstock.infra.backup.taking import Backup
from penstock.infra.backup.trial import check

__all__ = [
    "Backup",
    "BackupError",
    "Manifest",
    "Restore",
    "Tell",
    "check",
    "check_files",
    "read_manifest",
    "restore_here",
]
