"""DLRover's Flash Checkpoint without its agent and master: the training process forks the saver.

The copy goes to shared memory, the saver writes that to a file and then the step's number to a tracker file, which is when the
save is over. Its other ways (the agent that outlives a trainer, restore from shared memory) need dlrover-run.
"""
import os
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


class Flash(Peer):
    def start(self):
        # As its launcher does: the sockets of a saver that has ended look as if it could be asked.
        multi_process.clear_sock_dir()
        # A process of its own forks the saver and at once tells it what to save. The saver's socket answers some moments before
        # the queue behind it is there, and what comes then is lost, without an error: so the saver is started first, and asked.
        saver = engine_module.start_saver_process()
        factory = multi_process.SharedQueue(name="factory")
        engine_module.wait_socket_server(factory)
        while factory.qsize() < 0:
            time.sleep(0.01)
        engine_module.CheckpointEngine.saver_proc = saver
        self.checkpointer = DdpCheckpointer(str(self.folder))

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
        self.checkpointer._engine.close()
        saver = self.checkpointer._engine.saver_proc
        saver.kill()
        saver.join()
