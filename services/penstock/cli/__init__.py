"""The command `penstock`: the composition root, where services meet. Never any domain."""
