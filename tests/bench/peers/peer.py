"""What scripts/bench_peers asks of a checkpoint system."""
import pathlib


class Peer:
    """One system in one training process. Its answers are timed by the worker; what each needs to run is in its module."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)

    def start(self):
        """What a training program does once at its start; not timed."""

    def save(self, state, step):
        """Begins a save. Returns when training may change the state again: the time in here is stall."""
        raise NotImplementedError

    def done(self):
        """Whether the save is finished, in the system's own view; training calls this every step, and its time is stall too."""
        return True

    def load(self, state, step):
        """Fills the tensors of a living state, as a program that resumes does."""
        raise NotImplementedError

    def files(self, step):
        """The file or folder that holds the step."""
        return self.folder / f"step-{step}"

    def close(self):
        """Ends helpers; not timed."""


def copy_into(state, loaded):
    if state.keys() != loaded.keys():
        raise ValueError("the names differ: " + ", ".join(sorted(state.keys() ^ loaded.keys())[:3]))
    for name, tensor in loaded.items():
        state[name].copy_(tensor)
