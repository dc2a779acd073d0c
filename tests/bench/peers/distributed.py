"""PyTorch's distributed checkpoint: save, and async_save by a thread and by a process of its own."""
import os
import socket
import warnings

import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.state_dict_saver import AsyncCheckpointerType

from peer import Peer


def one_process_group(folder):
    """A process group of one rank over gloo, which the asynchronous savers insist on."""
    # A file as the meeting place: no port that another program may hold.
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous-{os.getpid()}", rank=0, world_size=1)


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Save(Peer):
    def start(self):
        warnings.filterwarnings("ignore", message="torch.distributed is")

    def save(self, state, step):
        dcp.save(state, checkpoint_id=self.files(step), no_dist=True)

    def load(self, state, step):
        dcp.load(state, checkpoint_id=self.files(step), no_dist=True)


class AsyncThread(Save):
    how = AsyncCheckpointerType.THREAD

    def start(self):
        super().start()
        # The process saver's helper looks for these, as torchrun would have set them.
        os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(free_port()), RANK="0", WORLD_SIZE="1")
        one_process_group(self.folder)
        self.future = None

    def save(self, state, step):
        self.future = dcp.async_save(state, checkpoint_id=self.files(step), async_checkpointer_type=self.how)

    def done(self):
        if not self.future.done():
            return False
        self.future.result()
        return True

    def close(self):
        dist.destroy_process_group()


class AsyncProcess(AsyncThread):
    how = AsyncCheckpointerType.PROCESS
