"""How a training joins the processes it is started on, and leaves them."""

import atexit
import gc
from typing import Any


def joined(**options: Any) -> Any:
    """Hugging Face's Accelerator, joined to the other processes where there are any; several trainings of one script share the process group."""
    # Its functions have the process group as a default. Imported by DistributedDataParallel, they would hold the group, and its threads, to the end.
    import torch.distributed.nn  # noqa: F401
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    wanted = options.get("mixed_precision", "no")
    if AcceleratorState._shared_state.get("_mixed_precision", wanted) != wanted:
        AcceleratorState._reset_state()  # all Accelerators share it, and refuse another precision than the first one's
    atexit.unregister(_close)
    atexit.register(_close)
    return Accelerator(**options)


def leave(accelerator: Any) -> None:
    """Ends the trackers, and lets go of what was prepared. The process group stays, for another training, until Python ends."""
    accelerator.wait_for_everyone()
    for tracker in accelerator.trackers:
        tracker.finish()
    accelerator.free_memory()


def _close() -> None:
    """Ends the process group.

    A thread of it that were left when Python ends could abort the process, and torchrun would take a finished training for a failed one.
    """
    import torch.distributed as dist

    gc.collect()
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()
        gc.collect()
