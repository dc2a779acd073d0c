"""NVIDIA's Resiliency Extension: asynchronous DCP saves by a persistent worker, and local checkpoints.

Both are made for GPUs: they wait for CUDA unasked, and take a tensor's way to the CPU for the copy that makes a save independent
of training. So here CUDA's synchronize does nothing, and the copy of CPU tensors is made in their place; it counts as stall.
"""
import functools
import logging

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from nvidia_resiliency_ext.checkpointing.async_ckpt.core import AsyncCallsQueue, AsyncRequest
from nvidia_resiliency_ext.checkpointing.async_ckpt.filesystem_async import FileSystemWriterAsync
from nvidia_resiliency_ext.checkpointing.async_ckpt.state_dict_saver import (
    save_state_dict_async_finalize, save_state_dict_async_plan)
from nvidia_resiliency_ext.checkpointing.local.basic_state_dict import BasicTensorAwareStateDict
from nvidia_resiliency_ext.checkpointing.local.ckpt_managers.local_manager import LocalCheckpointManager
from torch.distributed.checkpoint.default_planner import DefaultSavePlanner

from distributed import one_process_group
from peer import Peer, copy_into

THREADS = 2  # writers of one rank, as its examples have it


def without_cuda():
    torch.cuda.synchronize = lambda *_: None


def staged(preload):
    """Runs in the worker, which imports this module anew and so must be kept from CUDA as well."""
    without_cuda()
    return preload()


def copied(state):
    return {name: tensor.clone() for name, tensor in state.items()}


class Queued(Peer):
    def start(self):
        logging.disable(logging.WARNING)
        without_cuda()
        one_process_group(self.folder)
        self.queue = AsyncCallsQueue()

    def done(self):
        self.queue.maybe_finalize_async_calls(blocking=False, no_dist=True)
        return self.queue.get_num_unfinalized_calls() == 0

    def close(self):
        if self.queue.persistent_caller:
            self.queue.persistent_caller.close()
        dist.destroy_process_group()


class PersistentWorker(Queued):
    def save(self, state, step):
        writer = FileSystemWriterAsync(self.files(step), thread_count=THREADS)
        planned = save_state_dict_async_plan(copied(state), writer, planner=DefaultSavePlanner())
        write, preload, arguments = writer.get_save_function_and_args()
        request = AsyncRequest(write, arguments, [functools.partial(save_state_dict_async_finalize, *planned)], {},
                               functools.partial(staged, preload))
        self.queue.schedule_async_request(request)

    def load(self, state, step):
        dcp.load(state, checkpoint_id=self.files(step), no_dist=True)


class LocalState(BasicTensorAwareStateDict):
    """Its own class insists on CUDA tensors, and puts what it loads on the GPU."""

    def __init__(self, state):
        self.state_dict = state
        self._is_hollow = False

    def restore_tensor_device(self, non_blocking=True):
        pass


class Local(Queued):
    def start(self):
        super().start()
        self.manager = LocalCheckpointManager(self.folder)

    def files(self, step):
        return self.folder / "0" / f"iter_{step:07}_0_local.pt"

    def save(self, state, step):
        self.queue.schedule_async_request(self.manager.save(LocalState(copied(state)), step, is_async=True))

    def load(self, state, step):
        manager = LocalCheckpointManager(self.folder)
        newest = manager.find_latest()
        if newest != step:
            raise FileNotFoundError(f"not offered; the newest it finds is iteration {newest}")
        copy_into(state, manager.load()[0].state_dict)
