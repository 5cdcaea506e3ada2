"""Runs one program for as long as its owner lives; it never starts the program again.

    python -I -S guard.py OWNER_PID GRACE_SECONDS PROGRAM [ARGUMENT...]

Standard input is a socket or pipe of which the owner holds the other end. When the owner closes
it, or dies in whatever way, the program gets SIGTERM and, after the grace, SIGKILL. The guard ends
when the program ends, with its exit status; its own end of a socket tells the owner.

Why a process of its own: PR_SET_PDEATHSIG exists on Linux only, fires when the *thread* that
started the program ends, and must be set between fork and exec, where Python code may deadlock in
a program with threads. An end closed by the kernel works on every POSIX system and from any
thread, and there is no moment at which the owner's death goes unseen. The guard is the program's
parent, so that the process id it signals cannot have been given to another.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import threading

OWNER_CHECK = 1.0


def main() -> int:
    """Run the program named by the command line; answer with its exit status."""
    owner, grace, command = int(sys.argv[1]), float(sys.argv[2]), sys.argv[3:]
    program = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    # After the program has started, since it would inherit this: a signal to the whole group or
    # control group must not leave the program without its guard.
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_stop_with_owner, args=(program, owner, grace), daemon=True).start()
    status = program.wait()
    return status if status >= 0 else 128 - status


def _stop_with_owner(program: subprocess.Popen[bytes], owner: int, grace: float) -> None:
    # Processes that the owner forked hold its end too, and may outlive it: hence its id as well.
    while os.getppid() == owner:
        ended, _, _ = select.select([0], [], [], OWNER_CHECK)
        if ended:
            break
    program.terminate()
    try:
        program.wait(grace)
    except subprocess.TimeoutExpired:
        program.kill()


if __name__ == "__main__":
    sys.exit(main())
