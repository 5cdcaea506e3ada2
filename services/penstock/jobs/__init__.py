"""Jobs: work that outlives its caller, tried until it is done. Owns PENSTOCK_EV_JOBS, its work
items in PENSTOCK_WORK and its timers in PENSTOCK_SCHED.
"""
