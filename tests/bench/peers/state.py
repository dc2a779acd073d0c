"""The state that every system saves: float32 parameters of a GPT and AdamW's two moments of each, of a given size.

`shapes` is pure; what makes tensors imports torch when it is called, so that the driver and the tests need none.
"""
import math

LAYERS = 16
CONTEXT = 256
MOMENTS = ("", ".exp_avg", ".exp_avg_sq")


def parameters(megabytes):
    """Names and shapes of the parameters, a third of the size: 16 layers, and an embedding that takes what they leave."""
    numbers = (megabytes << 20) // (4 * len(MOMENTS))
    width = max(8, int(math.sqrt(numbers / (12.5 * LAYERS))) // 4 * 4)
    shapes = {"position": (CONTEXT, width) if megabytes >= 16 else (8, width)}
    for layer in range(LAYERS):
        for name, rows in (("qkv", 3 * width), ("out", width), ("up", 4 * width)):
            shapes[f"layer{layer}.{name}.weight"] = (rows, width)
            shapes[f"layer{layer}.{name}.bias"] = (rows,)
        shapes[f"layer{layer}.down.weight"] = (width, 4 * width)
        shapes[f"layer{layer}.down.bias"] = (width,)
        for norm in ("norm1", "norm2"):
            shapes[f"layer{layer}.{norm}.weight"] = shapes[f"layer{layer}.{norm}.bias"] = (width,)
    shapes["norm.weight"] = shapes["norm.bias"] = (width,)
    left = numbers - sum(math.prod(shape) for shape in shapes.values())
    shapes["token"] = (max(1, left // width), width)
    return shapes


def shapes(megabytes):
    return {name + moment: shape for name, shape in parameters(megabytes).items() for moment in MOMENTS}


def size(megabytes):
    """Bytes, within a row of the embedding of what was asked for."""
    return sum(4 * math.prod(shape) for shape in shapes(megabytes).values())


def make(megabytes, seed=1):
    """Random numbers, every page touched."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    return {name: torch.rand(shape, generator=generator) for name, shape in shapes(megabytes).items()}


def at_step(base, step, into):
    """The state as it stands at `step`, written over `into`: what any process can compute again to compare with."""
    for name, tensor in base.items():
        into[name].copy_(tensor).add_(float(step))


def differing(state, base, step):
    """How many tensors of `state` are not those of `step`, bit for bit."""
    import torch

    return sum(not torch.equal(state[name], tensor + float(step)) for name, tensor in base.items())
