"""How fast are jobs, beside a bare loop on raw nats-py and other job systems in the same run?"""
