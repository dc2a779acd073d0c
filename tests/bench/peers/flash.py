"""DLRover's Flash Checkpoint without its agent and master: the training process forks the saver.

The copy goes to shared memory, the saver writes that to a file and then the step's number to a tracker file, which is when the
save is over. Its other ways (the agent that outlives a trainer, restore from shared memory) need dlrover-run.
"""
import multiprocessing
import os
import shutil
import sys
import time

# Names of its sockets and of its shared memory; read when it is imported.
os.environ.setdefault("TORCHELASTIC_RUN_ID", "bench-peers")
os.environ.setdefault("LOCAL_RANK", "0")

import dlrover.python.common.multi_process as multi_process  # noqa: E402
import dlrover.trainer.torch.flash_checkpoint.engine as engine_module  # noqa: E402
from dlrover.python.common.constants import CheckpointConstant  # noqa: E402
from dlrover.trainer.torch.flash_checkpoint.checkpointer import StorageType  # noqa: E402
from dlrover.trainer.torch.flash_checkpoint.ddp import DdpCheckpointer  # noqa: E402

from peer import Peer, copy_into  # noqa: E402

multi_process.SOCKET_TMP_DIR = "/dev/shm/ckpt_sock/"  # /tmp is everybody's, and it would leave the sockets there


engine_module.wait_socket_server.__defaults__ = (10,)  # seconds; instead of 60 for a saver that never comes up
STARTS = 4


class Flash(Peer):
    def start(self):
        """Its saver now and then does not come up after the fork, and then never does: ended and forked again."""
        for attempt in range(STARTS):
            os.makedirs(multi_process.SOCKET_TMP_DIR, exist_ok=True)
            try:
                self.checkpointer = DdpCheckpointer(str(self.folder))
                return
            except TimeoutError as error:
                print(f"start {attempt + 1} of the saver failed: {error}", file=sys.stderr)
                if attempt == STARTS - 1:
                    raise
                self.end_savers()
                shutil.rmtree(multi_process.SOCKET_TMP_DIR, ignore_errors=True)

    def path(self, step):
        return self.files(step) / "rank_0.pt"

    def save(self, state, step):
        self.step = step
        engine = self.checkpointer._engine
        # It drops a save, without an error, while its saver still holds the lock of the last one: asked again until it takes it.
        while engine.latest_step != step:
            self.checkpointer.save_checkpoint(step, state, str(self.path(step)), StorageType.DISK)
            if engine.latest_step != step:
                time.sleep(0.002)

    def done(self):
        try:
            return (self.folder / CheckpointConstant.TRACER_FILE_NAME).read_text() == str(self.step)
        except OSError:
            return False

    def load(self, state, step):
        copy_into(state, self.checkpointer._engine._load_from_storage(str(self.path(step))))

    def close(self):
        self.end_savers()

    @staticmethod
    def end_savers():
        for saver in multiprocessing.active_children():
            saver.kill()
            saver.join()
