"""How fast is the event log, beside raw nats-py and the `eventsourcing` library in the same run?"""
