"""Which systems scripts/bench_peers compares, in the order of its tables; no torch here, since the driver runs without it."""
from typing import NamedTuple


class Entry(NamedTuple):
    title: str
    module: str  # of this folder
    kind: str  # class in it
    synced: str  # what it syncs to disk by itself before it says that a save is done
    package: str  # whose version counts


PEERS = {
    "torch-save": Entry("torch.save + fsync", "files", "TorchSave", "its file, by our fsync", "torch"),
    "safetensors": Entry("safetensors + fsync", "files", "Safetensors", "its file, by our fsync", "safetensors"),
    "dcp": Entry("DCP save", "distributed", "Save", "files", "torch"),
    "dcp-thread": Entry("DCP async_save, thread", "distributed", "AsyncThread", "files", "torch"),
    "dcp-process": Entry("DCP async_save, process", "distributed", "AsyncProcess", "files", "torch"),
    "snapshot": Entry("TorchSnapshot take", "snapshot", "Take", "nothing", "torchsnapshot"),
    "snapshot-async": Entry("TorchSnapshot async_take", "snapshot", "AsyncTake", "nothing", "torchsnapshot"),
    "dlrover": Entry("DLRover Flash Checkpoint", "flash", "Flash", "nothing", "dlrover"),
    "nvrx-dcp": Entry("NVRx DCP, persistent worker", "nvrx", "PersistentWorker", "files", "nvidia-resiliency-ext"),
    "nvrx-local": Entry("NVRx local checkpoint", "nvrx", "Local", "nothing", "nvidia-resiliency-ext"),
}
BELAY = Entry("belay", "", "", "files and folder", "belay")
NAMES = ["belay", *PEERS]


def entry(name):
    return BELAY if name == "belay" else PEERS[name]
