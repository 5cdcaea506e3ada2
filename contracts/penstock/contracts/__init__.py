"""What the parts of Penstock agree on: envelope, subjects, messages and errors. Never any I/O."""
