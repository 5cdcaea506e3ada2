"""What is folded from a log and answers questions: the read model, its projector, its renewal."""
