"""`python -I -S launch.py RESULT COMMAND ...`: start a command, wait for it, write what it used as JSON.

Belongs here: fork, exec, wait4; only the standard library, and little of it. Not here: anything else. It is a process
of its own because a forked child's peak memory begins with that of its parent, and the benchmark's is large.

Processes that the command leaves behind (the home's private Redis) become children of this one, and their use is
counted apart, if they end within LEFT_BEHIND_S.
"""

import ctypes
import json
import os
import sys
import time

__all__: list[str] = []

LEFT_BEHIND_S = 10.0
LOOK_EVERY_S = 0.02
PR_SET_CHILD_SUBREAPER = 36  # Source: https://man7.org/linux/man-pages/man2/PR_SET_CHILD_SUBREAPER.2const.html


def _main(result: str, command: list[str]) -> int:
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    began_s = time.monotonic()
    child = os.fork()
    if child == 0:
        os.execvp(command[0], command)
    left_behind_cpu_s = 0.0
    while True:
        pid, status, usage = os.wait4(-1, 0)
        if pid == child:
            break
        left_behind_cpu_s += usage.ru_utime + usage.ru_stime
    found = {
        "returncode": os.waitstatus_to_exitcode(status),
        "wall_s": time.monotonic() - began_s,
        "cpu_s": usage.ru_utime + usage.ru_stime,
        "max_rss_bytes": usage.ru_maxrss * 1024,
    }
    with open(result, "w", encoding="utf-8") as file:
        json.dump({**found, "left_behind_cpu_s": left_behind_cpu_s + _left_behind_cpu_s()}, file)
    return 0


def _left_behind_cpu_s() -> float:
    cpu_s, until_s = 0.0, time.monotonic() + LEFT_BEHIND_S
    while time.monotonic() < until_s:
        try:
            pid, _, usage = os.wait4(-1, os.WNOHANG)
        except ChildProcessError:
            break
        if pid:
            cpu_s += usage.ru_utime + usage.ru_stime
        else:
            time.sleep(LOOK_EVERY_S)
    return cpu_s


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1], sys.argv[2:]))
