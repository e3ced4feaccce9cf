"""What this machine can run: devices and attention implementations, asked before a model loads."""

from lmms_awares.errors import ConfigError
from lmms_awares.models.config import CommonArgs

_STRATEGIES = ("auto", "balanced", "balanced_low_0", "sequential")  # values of device_map that are no device


def check_machine(args: CommonArgs, device: str | None) -> None:
    """Refuse settings that this machine cannot run; `device` is lmms-eval's argument.

    Raises:
        ConfigError: names the device or the package that is missing.
    """
    if device is not None:
        check_device(device, "--device ")
    if args.device_map is not None and args.device_map not in _STRATEGIES:
        check_device(args.device_map, "device_map=")
    if args.attn_implementation == "flash_attention_2":
        _check_flash_attention()


def check_device(name: str, what: str) -> None:
    """Refuse a device that does not exist here.

    Raises:
        ConfigError: no device at all, one that is absent, or an index beyond the last.
    """
    import torch

    try:
        device = torch.device(name)
        backend = torch.get_device_module(device)
    except RuntimeError:
        raise ConfigError(f"{what}{name} is no device to run on; give cpu, cuda, cuda:0 or mps") from None
    count = backend.device_count() if backend.is_available() else 0
    if count == 0:
        raise ConfigError(
            f"{what}{name}: this machine, or its torch {torch.__version__}, has no {device.type}; give cpu"
        )
    if device.index is not None and device.index >= count:
        raise ConfigError(f"{what}{name}: there are {count}, the last is {device.type}:{count - 1}")


def _check_flash_attention() -> None:
    import torch
    from transformers.utils import is_flash_attn_2_available, is_kernels_available

    # transformers takes the package, else the same kernel from the hub.
    if is_flash_attn_2_available() or (is_kernels_available() and torch.accelerator.is_available()):
        return
    raise ConfigError(
        "attn_implementation=flash_attention_2 needs the package flash-attn and a GPU that it runs on; install it, or "
        "give sdpa"
    )
