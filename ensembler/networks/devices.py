"""Which device computes, and in which precision."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import cache
from typing import TypeVar

import torch
from torch import nn

from ensembler.errors import RequestError
from ensembler.machine.cores import available_cores
from ensembler.networks.depthwise import learn_depthwise_in_float32
from ensembler.networks.unused_cards import built_for, why_not_asked_for

Network = TypeVar("Network", bound=nn.Module)


def pick_device(name: str = "auto") -> torch.device:
    """The device called `name`: auto (CUDA, then MPS, then CPU), cpu, cuda, cuda:1 or mps.

    Raises RequestError for a device that is not there, or for which torch was not built.
    """
    if "," in name:
        raise RequestError(
            f"--device {name!r}: one device is expected here; `ens run`, `ens kfold` and `ens bag` "
            "spread folds over several"
        )
    if name == "auto":
        if torch.cuda.is_available():
            return _computing(torch.device("cuda"))
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise RequestError(
            f"--device {name!r}: expected auto, cpu, cuda, cuda:1 or mps"
        ) from error
    here = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if device.type == "cuda" and not here["cuda"]:
        raise RequestError(f"--device {name!r}: {why_not_asked_for()}")
    if not here.get(device.type, False):
        raise RequestError(
            f"--device {name!r}: there is no such device here; `ens doctor` lists them"
        )
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise RequestError(
            f"--device {name!r}: there are {torch.cuda.device_count()} CUDA devices"
        )
    return _computing(device)


def cards(name: str) -> tuple[str, ...]:
    """The CUDA devices that a job on `name` may use: of auto and cuda all, of cuda:1 that one."""
    is_cuda = name == "auto" or name.partition(":")[0] == "cuda"
    if not is_cuda or not torch.cuda.is_available():
        return ()
    if ":" in name:
        return (name,)
    return tuple(f"cuda:{i}" for i in range(torch.cuda.device_count()))


def _computing(device: torch.device) -> torch.device:
    """The device, when it computes; RequestError with the reason otherwise."""
    reason = why_unusable(device) if device.type == "cuda" else None
    if reason is not None:
        raise RequestError(
            f"{device} ({torch.cuda.get_device_name(device)}, capability "
            f"{capability_text(device)}) cannot compute with this torch "
            f"({torch.__version__}, built for {built_for()}): {reason}; install "
            "a torch that was built for it, or add --device cpu"
        )
    if device.type == "cuda":
        # torch convolves in TF32 by itself; here float32 is float32, but in `tf32`
        torch.backends.cudnn.allow_tf32 = False
    return device


@cache
def why_unusable(device: torch.device) -> str | None:
    """Why a CUDA device cannot compute, found by computing something; None when it can.

    A torch that was not built for a card sees it and says so only at the first computation.
    """
    try:
        compute_something(device)
    except RuntimeError as error:
        return (str(error).strip().splitlines() or [type(error).__name__])[0]
    return None


def computes(device: torch.device) -> bool:
    """Whether a device computes at this moment."""
    try:
        compute_something(device)
    except RuntimeError:
        return False
    return True


def compute_something(device: torch.device) -> None:
    """Add two numbers on the device, and wait for the sum."""
    float((torch.ones(2, device=device) + 1).sum())


def capability_text(device: torch.device) -> str:
    """The compute capability of a CUDA device, such as 7.5."""
    return ".".join(map(str, torch.cuda.get_device_capability(device)))


def has_native_bf16(device: torch.device) -> bool:
    """Whether a CUDA device computes in bfloat16 itself: from capability 8.0 on.

    Older ones emulate it, slowly. Of AMD's devices torch says that all do.
    """
    return torch.version.hip is not None or torch.cuda.get_device_capability(device)[0] >= 8


def autocast_type(amp: str, device: torch.device) -> torch.dtype | None:
    """The type mixed precision computes in, or None for plain float32.

    `auto` depends on the hardware alone: bfloat16 where it is native, float16 on older CUDA
    devices, else float32.
    """
    if amp == "off":
        return None
    if amp == "fp16":
        return torch.float16
    if amp == "bf16":
        return torch.bfloat16
    if device.type == "cuda":
        return torch.bfloat16 if has_native_bf16(device) else torch.float16
    if device.type == "cpu" and _cpu_has_bf16():
        return torch.bfloat16
    return None


def predicting_precisions(amp: str, device: torch.device) -> tuple[str, ...]:
    """The kinds of mixed precision to predict in, the first that gives finite numbers counting.

    With auto it is float16 on CUDA, which is several times nearer to float32 than bfloat16; where
    its range is too small, bfloat16 where the card has it.
    """
    if amp != "auto" or device.type != "cuda":
        return (amp,)
    return ("fp16", "bf16") if has_native_bf16(device) else ("fp16",)


@contextlib.contextmanager
def tf32(device: torch.device) -> Iterator[None]:
    """Let a CUDA device multiply and convolve float32 by its tensor cores (10 bits of 23)."""
    with _float32_math(device, "high", convolutions=True):
        yield


@contextlib.contextmanager
def ieee_float32(device: torch.device) -> Iterator[None]:
    """Let float32 be float32 on a CUDA device, where torch convolves in TF32 by itself."""
    with _float32_math(device, "highest", convolutions=False):
        yield


@contextlib.contextmanager
def _float32_math(
    device: torch.device, matrices: str, *, convolutions: bool
) -> Iterator[None]:
    if device.type != "cuda":
        yield
        return
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision(matrices)
    torch.backends.cudnn.allow_tf32 = convolutions
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before[0])
        torch.backends.cudnn.allow_tf32 = before[1]


@contextlib.contextmanager
def training_math(device: torch.device, amp: str, *, deterministic: bool) -> Iterator[None]:
    """How a CUDA device computes in a training.

    Float32 is TF32, but for `amp: off`, and cuDNN tries its algorithms and takes the fastest one,
    unless equal seeds have to give equal bits.
    """
    if device.type != "cuda":
        yield
        return
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = not deterministic
    try:
        with ieee_float32(device) if amp == "off" else tf32(device):
            yield
    finally:
        torch.backends.cudnn.benchmark = before


def place_for_training(network: Network, amp: str, device: torch.device) -> Network:
    """Move a network to where it is trained, in the form in which it learns fastest there."""
    if device.type == "cpu" and autocast_type(amp, device) == torch.bfloat16:
        learn_depthwise_in_float32(network)
    return place(network, device)


def place(network: Network, device: torch.device) -> Network:
    """Move a network to a device, with the memory layout that is fastest there.

    That is channels last, but for MPS, where the gradients of convolutions are several times slower
    so.
    """
    if device.type != "mps":
        return network.to(device).to(memory_format=torch.channels_last)
    if hasattr(network, "channels_last"):
        network.channels_last = False  # type: ignore[assignment]
    return network.to(device).to(memory_format=torch.contiguous_format)


def loader_processes(device: torch.device) -> int:
    """How many processes should prepare batches beside the one that computes.

    None on a CPU, where they would take the cores that compute; up to eight where a device
    computes.
    """
    return 0 if device.type == "cpu" else min(8, max(1, available_cores() - 1))


def copies_early(device: torch.device) -> bool:
    """Whether copies to the device need not be waited for.

    CUDA reads pageable memory before the call returns.

    Others, MPS among them, may read it after it was given to something else.
    """
    return device.type == "cuda"


def use_available_cores() -> None:
    """Let torch compute with no more threads than the process has cores.

    In a container with a quota it would start one for each core of the machine, and they would get
    in each other's way.
    """
    torch.set_num_threads(min(torch.get_num_threads(), available_cores()))


def autocast(
    dtype: torch.dtype | None, device: torch.device
) -> contextlib.AbstractContextManager[object]:
    """Compute in `dtype` while the block runs; None changes nothing."""
    return (
        contextlib.nullcontext()
        if dtype is None
        else torch.autocast(device.type, dtype=dtype)
    )


def _cpu_has_bf16() -> bool:
    capabilities = getattr(torch.cpu, "get_capabilities", None)
    if capabilities is not None:
        found = capabilities()
        return bool(found.get("avx512_bf16") or found.get("amx_bf16") or found.get("bf16"))
    # Older torch: oneDNN knows whether bfloat16 is computed natively.
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
