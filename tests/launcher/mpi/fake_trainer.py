"""A program that attaches to the control page the way libbelay does, without libtorch: steps, and leaves when asked.

Argument: how it behaves. runtime/base/control_page.h has the layout.
"""
import mmap
import os
import struct
import sys
import time

STOP, GRACE, PID, PHASE, STEP, COMMITTED, TOTAL, OUTCOME, RESUMED, DATA_WAIT = 16, 20, 24, 28, 32, 48, 56, 96, 104, 112


class Page:
    def __init__(self):
        self.memory = mmap.mmap(int(os.environ["BELAY_CONTROL_FD"]), 4096)
        assert self.memory[:8] == struct.pack("<Q", 0x314C5254434C4542), "not a control page"

    def get(self, offset, form="<I"):
        return struct.unpack_from(form, self.memory, offset)[0]

    def put(self, offset, value, form="<I"):
        struct.pack_into(form, self.memory, offset, value)


def main():
    how = sys.argv[1]
    rank = int(os.environ["RANK"])
    again = int(os.environ["BELAY_RESTART_COUNT"]) > 0
    page = Page()
    page.put(TOTAL, 1_000_000, "<q")
    if rank == 0:  # the others are programs of an older belay, which knows no such field
        page.put(DATA_WAIT, 1.25, "<d")
    page.put(PID, os.getpid())
    page.put(PHASE, 3)
    if how == "finish":
        page.put(STEP, 5, "<q")
        page.put(OUTCOME, 1)
        return 0
    if how == "forget-finish":
        return 0
    step = 0
    while not page.get(STOP):
        step += 1
        page.put(STEP, step, "<q")
        if step == 2:
            open(f"ready.{rank}", "w").close()
        if how == "fail-once-after-steps" and step == 50:
            if again:
                page.put(OUTCOME, 1)
                return 0
            if rank == 1:
                return 9
        if how == "fail-before-steps":
            page.put(STEP, 0, "<q")
            return 9
        time.sleep(0.01)
    if how == "cannot-save":
        page.put(OUTCOME, 3)
        return 72
    if how == "hang-in-save":
        time.sleep(600)
    page.put(COMMITTED, step, "<q")
    page.put(OUTCOME, 2)
    return 75


sys.exit(main())
