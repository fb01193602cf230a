"""How a training joins the processes it is started on, and leaves them."""

from typing import Any


def joined(**options: Any) -> Any:
    """Hugging Face's Accelerator, joined to the other processes where there are any."""
    # Its functions have the process group as a default. Imported by DistributedDataParallel, they would hold the group, and its threads, to the end.
    import torch.distributed.nn  # noqa: F401
    from accelerate import Accelerator

    return Accelerator(**options)


def leave(accelerator: Any) -> None:
    """Ends the trackers and the process group. Call it where nothing else holds the network that was prepared.

    A thread of the group that is left when Python ends can abort the process, and torchrun then takes a finished training for a failed one.
    """
    from accelerate.state import AcceleratorState

    several = accelerator.num_processes > 1
    accelerator.wait_for_everyone()
    accelerator.free_memory()
    accelerator.end_training()
    if several:  # the group is gone, and Accelerate would take the next training to be in it still
        AcceleratorState._reset_state(reset_partial_state=True)
