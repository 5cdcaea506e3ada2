"""The worker: takes jobs off the bus and runs an application's handlers for them, by NATS alone."""
