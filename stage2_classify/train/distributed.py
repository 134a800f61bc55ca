"""The processes that train one model together, as `accelerate launch` (or torchrun) starts them.

Each batch is divided among the processes. Each computes the outputs of its own crops, and all of
them get the outputs of the complete batch. So losses, scores and predictions are those of a single
process. Knows torch.distributed and Accelerate; knows nothing of folds or files.
"""

from __future__ import annotations

import multiprocessing
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from cropfirst.core.device import resolve_device
from cropfirst.core.errors import CropfirstError, DeviceError, PeerError, TrainError, first_line
from cropfirst.core.workers import end_with_parent
from cropfirst.stage2_classify.data.sampling import part_of

TIMEOUT = timedelta(minutes=10)
"""Time that a process waits for the others; the first one may have weights to download."""

SEE_MAIN_PROCESS = "the first process says why"


@dataclass(frozen=True)
class ProcessGroup:
    """This process among those that train one model; by default it is the only one."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    """Number of this process among those on its machine."""
    local_size: int = 1
    """Number of processes on this machine."""

    @property
    def is_main(self) -> bool:
        """Whether this is the process that writes files and prints."""
        return self.rank == 0

    @property
    def share(self) -> tuple[int, int]:
        """(rank, size), as `part_of` takes them."""
        return self.rank, self.size

    def device(self, name: str) -> torch.device:
        """Resolve a device name as `resolve_device` does, with one GPU for each process.

        Raises:
            DeviceError: the device does not exist, or the machine has too few GPUs.
        """
        if self.size > 1 and name.startswith("cuda:"):
            raise DeviceError(
                f"--device {name} is one GPU, and each of {self.size} processes needs one: use cuda"
            )
        device = resolve_device(name)
        if self.size == 1 or device.type != "cuda":
            return device
        if self.local_rank >= torch.cuda.device_count():
            raise DeviceError(
                f"{self.local_size} processes on this machine need a GPU each, and it has "
                f"{torch.cuda.device_count()}: lower --num_processes"
            )
        torch.cuda.set_device(self.local_rank)
        return torch.device("cuda", self.local_rank)

    def all_gather(self, value: Any) -> list[Any]:
        """Return the value of each process, by rank."""
        if self.size == 1:
            return [value]
        from accelerate.utils import gather_object

        values: list[Any] = gather_object([value])
        return values

    def broadcast(self, value: Any) -> Any:
        """Return the main process's value; that of the other processes is ignored."""
        if self.size == 1:
            return value
        from accelerate.utils import broadcast_object_list

        return broadcast_object_list([value])[0]

    @contextmanager
    def share_errors(self) -> Iterator[None]:
        """End all processes if one of them raises an error within the block.

        The main process raises the error itself, or a TrainError that quotes it.

        Raises:
            PeerError: in the processes other than the main one.
        """
        if self.size == 1:
            yield
            return
        error: Exception | None = None
        try:
            yield
        except (CropfirstError, OSError) as raised:
            error = raised
        texts = self.all_gather(None if error is None else f"on {socket.gethostname()}: {error}")
        if not any(texts):
            return
        if not self.is_main:
            raise PeerError(SEE_MAIN_PROCESS) from error
        if error is not None:
            raise error
        rank, text = next((rank, text) for rank, text in enumerate(texts) if text is not None)
        raise TrainError(f"process {rank + 1} of {self.size} {text}")

    def check_same(self, facts: Mapping[str, str]) -> None:
        """Check that all processes work on the same thing.

        Args:
            facts: name -> value, both of which messages quote.

        Raises:
            TrainError: the facts differ.
            PeerError: the same, in the processes other than the main one.
        """
        first, *others = self.all_gather(dict(facts))
        for rank, other in enumerate(others, 1):
            wrong = [name for name in first if other[name] != first[name]]
            if wrong and not self.is_main:
                raise PeerError(SEE_MAIN_PROCESS)
            if wrong:
                what = ", ".join(f"{name} {other[name]}, not {first[name]}" for name in wrong)
                raise TrainError(
                    f"process {rank + 1} of {self.size} has {what}: all must see the same files, "
                    "with the same versions"
                )

    def gather_rows(self, rows: Tensor, n: int) -> Tensor:
        """Gather the rows of a complete batch; only this process's own rows carry gradients.

        Accelerate's `gather` neither keeps gradients nor takes parts of different length.

        Args:
            rows: (own, K) rows of this process, or (1, K) if it has no part in the batch.
            n: number of crops in the complete batch, which `part_of` divided.

        Returns:
            (n, K), the same in all processes.
        """
        lengths = [len(part_of(n, (rank, self.size))) for rank in range(self.size)]
        own = rows[: lengths[self.rank]]
        padded = rows.new_zeros((max(lengths), rows.shape[1]), requires_grad=False)
        padded[: len(own)] = own.detach()
        parts = [torch.empty_like(padded) for _ in lengths]
        dist.all_gather(parts, padded)
        found = [part[:length] for part, length in zip(parts, lengths, strict=True)]
        found[self.rank] = own
        return torch.cat(found)

    def gather_batch(
        self, outputs: Mapping[str, Tensor], soft: Mapping[str, Tensor], n: int
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Gather the outputs and soft targets of a complete batch in one exchange.

        The loss is then computed on the complete batch. A mean over the parts' losses would differ:
        because of macro F1, class weights, and parts of different size.

        Args:
            outputs: task -> (own, width) outputs of this process.
            soft: task -> (own, targets) float32.
            n: number of crops in the complete batch.

        Returns:
            Both mappings with n rows in each table.
        """
        tables = [*(each.float() for each in outputs.values()), *soft.values()]
        widths = [table.shape[1] for table in tables]
        gathered = self.gather_rows(torch.cat(tables, dim=1), n).split(widths, dim=1)
        return (
            dict(zip(outputs, gathered, strict=False)),
            dict(zip(soft, gathered[len(outputs) :], strict=True)),
        )

    def broadcast_buffers(self, model: nn.Module) -> None:
        """Give a model the main process's buffers, such as the statistics of batch norm."""
        if self.size > 1:
            for buffer in model.buffers():
                dist.broadcast(buffer, 0)

    def wrap(self, model: nn.Module, *, image_size: int) -> nn.parallel.DistributedDataParallel:
        """Wrap a model so that gradients become the mean over the processes.

        Weights that are frozen now are left out. All processes get the main process's weights.
        """
        device = next(model.parameters()).device
        return nn.parallel.DistributedDataParallel(
            model,
            device_ids=[device] if device.type == "cuda" else None,
            find_unused_parameters=_has_unused_weights(model, image_size=image_size),
        )


SINGLE_PROCESS = ProcessGroup()


def _has_unused_weights(model: nn.Module, *, image_size: int) -> bool:
    """Tell whether no output depends on some of the weights; the model stays as it was."""
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    weights = [each for each in model.parameters() if each.requires_grad]
    device = weights[0].device
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        images = torch.zeros(2, 3, image_size, image_size, device=device)
        outputs = model.forward(images)  # not by a call, which might be compiled
        total = torch.stack([each.float().sum() for each in outputs.values()]).sum()
        gradients = torch.autograd.grad(total, weights, allow_unused=True)
    for name, buffer in model.named_buffers():
        buffer.copy_(before[name])
    return any(gradient is None for gradient in gradients)


@contextmanager
def join_processes() -> Iterator[ProcessGroup]:
    """Connect to the other processes that the launcher has started.

    The launcher's environment variables tell how many there are and where.

    Raises:
        TrainError: the processes cannot connect.
        PeerError: another process has ended or does not answer, now or later.
    """
    if "TORCHELASTIC_RUN_ID" in os.environ:
        end_with_parent()
    processes = _connect()
    # A fork beside gloo's threads leaves a child that hangs when one of them was being made known
    # to Python at that moment (CPython 3.11: the lock on the list of threads stays taken).
    multiprocessing.set_start_method("forkserver", force=True)
    try:
        yield processes
    except RuntimeError as error:
        if not isinstance(error, dist.DistError) and "/gloo/" not in str(error):
            raise
        late = "timed out" in str(error).lower()
        what = f"was not heard of for {TIMEOUT.total_seconds():.0f} s" if late else "has ended"
        raise PeerError(
            f"another of the {processes.size} processes {what}; it may have said why, or the "
            "system's log may. What was finished is kept: run the same command to go on"
        ) from error
    dist.destroy_process_group()


def _connect() -> ProcessGroup:
    try:
        from accelerate import PartialState

        # On GPUs, objects and the tensors of `--device cpu` still travel through gloo.
        has_gpu = torch.cuda.is_available()
        state = PartialState(
            cpu=not has_gpu, backend="cpu:gloo,cuda:nccl" if has_gpu else "gloo", timeout=TIMEOUT
        )
    except ImportError as error:
        raise TrainError(
            "training by several processes needs the package accelerate: "
            "pip install 'cropfirst[ddp]'"
        ) from error
    except (RuntimeError, ValueError) as error:
        environment = os.environ
        raise TrainError(
            f"the {environment['WORLD_SIZE']} processes do not find each other at "
            f"{environment.get('MASTER_ADDR')}:{environment.get('MASTER_PORT')} "
            f"({first_line(error)}): start them with accelerate launch"
        ) from error
    return ProcessGroup(
        state.process_index,
        state.num_processes,
        local_rank=max(state.local_process_index, 0),
        local_size=int(os.environ.get("LOCAL_WORLD_SIZE", state.num_processes)),
    )
