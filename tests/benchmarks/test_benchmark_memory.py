"""What /proc says is read right, for odd process names too."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from benchmarks.memory import (
    is_running,
    parse_parent,
    parse_pss,
    parse_ticks,
    process_names,
    process_tree,
    processor_seconds,
    proportional_bytes,
)

ROLLUP = """55d0c0a00000-7ffd000 ---p 00000000 00:00 0 [rollup]
Rss:               22112 kB
Pss:                9876 kB
Pss_Dirty:          5000 kB
Pss_Anon:           4000 kB
"""
STAT = "4242 (odd) name (x) S 17 4242 4242 0 -1 4194304 900 30 0 0 111 22 3 4 20 0 1 0 5000 1000 200"


def test_the_proportional_set_size_is_in_bytes() -> None:
    assert parse_pss(ROLLUP) == 9876 * 1024


def test_text_without_a_proportional_set_size_is_refused() -> None:
    with pytest.raises(ValueError, match="Pss"):
        parse_pss("Rss: 1 kB\nPss_Anon: 4 kB\n")


def test_ticks_count_buried_children_whatever_the_program_is_called() -> None:
    assert parse_ticks(STAT) == 111 + 22 + 3 + 4
    assert parse_parent(STAT) == 17


def test_a_child_is_in_the_tree_of_its_parent_until_it_ends() -> None:
    command = [sys.executable, "-c", "input()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as child:
        assert {os.getpid(), child.pid} <= process_tree(os.getpid())
        assert child.pid in process_names([child.pid])
        child.communicate(b"\n")
    assert child.pid not in process_tree(os.getpid())
    assert process_tree(child.pid) == set()
    assert not is_running(child.pid)


def test_this_process_has_a_size_and_has_worked() -> None:
    assert proportional_bytes([os.getpid()]) > 1024 * 1024
    assert processor_seconds([os.getpid()]) > 0


def test_a_process_that_has_ended_costs_nothing() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        ended.wait()
    assert proportional_bytes([ended.pid]) == 0
    assert processor_seconds([ended.pid]) == 0
    assert process_names([ended.pid]) == {}
