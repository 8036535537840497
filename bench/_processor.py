"""CPU time of other processes, from /proc; scripts/bench does not list this file."""

import os
from pathlib import Path

from django.db import connection

TICK_S = 1 / os.sysconf("SC_CLK_TCK")


def cpu_seconds(pid: int | str) -> float:
    """User and system time of a process until now; 0 where there is none (any more) on this host."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except FileNotFoundError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) * TICK_S


def cpu_of_sessions() -> float:
    """Of all sessions of PostgreSQL on this database together."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pid FROM pg_stat_activity WHERE datname = current_database()")
        return sum(cpu_seconds(pid) for (pid,) in cursor.fetchall())
