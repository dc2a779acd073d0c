"""The values of tests/checkpoint/format/sample_checkpoint.cc, by full name."""

import torch


def _count(shape):
    return torch.arange(torch.Size(shape).numel(), dtype=torch.int64).reshape(shape)


def _bits(shape, first, narrow, dtype):
    return (_count(shape) + first).to(narrow).view(dtype)


def _f32(*shape):
    return _count(shape).float() * 0.25 - 3.0


def _inverted(dtype, bits):
    """~i as an unsigned number of `bits` bits."""
    return torch.tensor([[2**bits - 1, 2**bits - 2], [2**bits - 3, 2**bits - 4]], dtype=dtype)


def expected():
    return {
        "model.rows.weight": _f32(6, 4),
        "model.columns.weight": _f32(4, 6),
        "model.big": _count((40, 3)).double() + 0.5,
        "model.bf16": _count((8, 2)).to(torch.bfloat16),
        "model.f16": _bits((4,), 0x3C00, torch.int16, torch.float16),
        "model.mask": _count((3, 3)) % 2 == 0,
        "model.steps": torch.tensor(1234567890123),
        "model.i32": (-_count((2, 2))).to(torch.int32),
        "model.i16": (-_count((2, 2))).to(torch.int16),
        "model.i8": (-_count((2, 2))).to(torch.int8),
        "model.u64": _inverted(torch.uint64, 64),
        "model.u32": _inverted(torch.uint32, 32),
        "model.u16": _inverted(torch.uint16, 16),
        "model.u8": _inverted(torch.uint8, 8),
        "model.c64": torch.complex(_count((3,)).float(), -_count((3,)).float()),
        # Complex doubles are stored as pairs of doubles, float8 as bytes: other readers have no name for them.
        "model.c128": torch.view_as_real(torch.complex(_count((3,)).double(), -_count((3,)).double())),
        "model.f8_e4m3": _bits((4,), 0x30, torch.uint8, torch.uint8),
        "model.f8_e5m2": _bits((4,), 0x30, torch.uint8, torch.uint8),
        "model.empty": _f32(0, 3),
        "model.only.on.rank1": _f32(5),
        "optimizer.rows.weight.exp_avg": _f32(6, 4),
    }


def same(a, b):
    """Equal in dtype, shape and every bit."""
    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    if a.numel() == 0:
        return True
    return torch.equal(a.contiguous().reshape(-1).view(torch.uint8), b.contiguous().reshape(-1).view(torch.uint8))
