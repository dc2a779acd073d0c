"""Stock safetensors and PyTorch's distributed checkpoint read what belay writes, exactly, whole and resharded."""

import json
import os
import pathlib
import subprocess
import sys
import traceback

import pytest
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
import torch.multiprocessing as mp
from safetensors import safe_open
from torch.distributed.checkpoint import HuggingFaceStorageReader
from torch.distributed.checkpoint.api import CheckpointException

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from sample import expected, same  # noqa: E402


@pytest.fixture(scope="module", params=["one drive", "two drives"])
def folder(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("checkpoint")
    subprocess.run([os.environ["SAMPLE_CHECKPOINT"], str(path)], check=True)
    if request.param == "two drives":  # as belayd leaves it that was given another data folder
        other = tmp_path_factory.mktemp("other")
        for shard in sorted(path.glob("*.safetensors"))[1::2]:
            shard.rename(other / shard.name)
            shard.symlink_to(other / shard.name)
    return path


def test_safetensors_reads_every_piece(folder):
    """Each file alone; the pieces, put where DCP_SHARDING_INFO says, are all of every tensor."""
    wanted = expected()
    rebuilt = {name: torch.zeros_like(tensor) for name, tensor in wanted.items()}
    filled = {name: 0 for name in wanted}
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata()
            assert metadata["format"] == "pt"
            assert json.loads(metadata["belay.identity"])["job"] == "every-kind.of_tensor"
            places = json.loads(metadata["DCP_SHARDING_INFO"])
            assert set(places) == set(file.keys())
            for name in file.keys():
                piece = file.get_tensor(name)
                where = tuple(slice(o, o + n) for o, n in zip(places[name]["saved_offsets"], piece.shape))
                rebuilt[name][where] = piece
                filled[name] += piece.numel()
    for name, tensor in wanted.items():
        assert filled[name] == tensor.numel(), name
        assert same(rebuilt[name], tensor), name


def test_headers_are_aligned(folder):
    for path in folder.glob("*.safetensors"):
        assert (8 + int.from_bytes(path.read_bytes()[:8], "little")) % 4096 == 0


@pytest.mark.parametrize("threads", [1, 4])
def test_distributed_checkpoint_reads_everything_in_one_process(folder, threads):
    wanted = expected()
    state = {name: torch.zeros_like(tensor) for name, tensor in wanted.items()}
    dcp.load(state, storage_reader=HuggingFaceStorageReader(str(folder), thread_count=threads), no_dist=True)
    for name, tensor in wanted.items():
        assert same(state[name], tensor), name


def test_distributed_checkpoint_knows_every_tensor_and_its_global_shape(folder):
    metadata = HuggingFaceStorageReader(str(folder)).read_metadata().state_dict_metadata
    wanted = expected()
    assert set(metadata) == set(wanted)
    for name, tensor in wanted.items():
        assert metadata[name].size == tensor.shape, name
        assert metadata[name].properties.dtype == tensor.dtype, name


def test_distributed_checkpoint_notices_a_missing_file(folder, tmp_path):
    """The harness sees failure: without rank 1's file the rows of rank 1 cannot be read."""
    for path in folder.glob("rank-00000.*"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    state = {"model.rows.weight": torch.zeros(6, 4)}
    with pytest.raises(CheckpointException):
        dcp.load(state, storage_reader=HuggingFaceStorageReader(str(tmp_path)), no_dist=True)


def _load_resharded(rank, world_size, folder, rendezvous):
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor

    dist.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=world_size)
    try:
        mesh = init_device_mesh("cpu", (world_size,))
        wanted = expected()
        for dimension in (0, 1):
            cut = {name for name, tensor in wanted.items() if tensor.dim() > dimension and tensor.numel() > 0}
            state = {}
            for name, tensor in wanted.items():
                empty = torch.zeros_like(tensor)
                if name in cut:
                    state[name] = distribute_tensor(empty, mesh, [Shard(dimension)], src_data_rank=None)
                else:
                    state[name] = DTensor.from_local(empty, mesh, [Replicate()], run_check=False)
            dcp.load(state, storage_reader=HuggingFaceStorageReader(folder))
            for name, tensor in wanted.items():
                mine = tensor
                if name in cut:
                    parts = torch.chunk(tensor, world_size, dimension)
                    mine = parts[rank] if rank < len(parts) else tensor.narrow(dimension, 0, 0)
                assert same(state[name].to_local(), mine), f"rank {rank}, cut along {dimension}: {name}"
        dist.barrier()
    except BaseException:
        traceback.print_exc()
        raise
    finally:
        dist.destroy_process_group()


def test_distributed_checkpoint_reshards_two_ranks_into_three(folder, tmp_path):
    """Saved by two ranks; loaded as DTensors by three processes, cut along rows and along columns, unevenly."""
    mp.spawn(_load_resharded, (3, str(folder), str(tmp_path / "rendezvous")), nprocs=3)
