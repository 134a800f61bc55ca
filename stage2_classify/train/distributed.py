"""The processes that train one model together, as `accelerate launch` (or torchrun) starts them.

A batch is shared out; each process looks at its own crops, and all of them see the outputs for the
whole batch. So losses, scores and predictions are those of one process. Knows torch.distributed;
knows nothing of folds or files.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
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

PATIENCE = timedelta(minutes=10)
"""How long a process waits for the others: as long as the first may fetch weights."""

SAID_BY_FIRST = "the first process says why"


@dataclass(frozen=True)
class Team:
    """This process among those that train one model; by default it is alone."""

    rank: int = 0
    size: int = 1
    place: int = 0
    """Its number among those on this machine."""
    here: int = 1
    """Processes on this machine."""

    @property
    def leads(self) -> bool:
        """Whether this is the process that writes and speaks."""
        return self.rank == 0

    @property
    def share(self) -> tuple[int, int]:
        """(rank, size), for `part_of`."""
        return self.rank, self.size

    def device(self, name: str) -> torch.device:
        """As `resolve_device`; of several processes on a machine, each has a GPU of its own.

        Raises:
            DeviceError: there is none.
        """
        if self.size > 1 and name.startswith("cuda:"):
            raise DeviceError(
                f"--device {name} is one GPU, and each of {self.size} processes wants one: use cuda"
            )
        device = resolve_device(name)
        if self.size == 1 or device.type != "cuda":
            return device
        if self.place >= torch.cuda.device_count():
            raise DeviceError(
                f"{self.here} processes on this machine want a GPU each, and it has "
                f"{torch.cuda.device_count()}: lower --num_processes"
            )
        torch.cuda.set_device(self.place)
        return torch.device("cuda", self.place)

    def tell_all(self, value: Any) -> list[Any]:
        """What each process says, by rank; JSON-able."""
        if self.size == 1:
            return [value]
        raw = torch.frombuffer(bytearray(json.dumps(value).encode()), dtype=torch.uint8)
        lengths = [torch.zeros(1, dtype=torch.int64) for _ in range(self.size)]
        dist.all_gather(lengths, torch.tensor([len(raw)]))
        room = torch.zeros(int(max(lengths)), dtype=torch.uint8)
        room[: len(raw)] = raw
        rooms = [torch.empty_like(room) for _ in lengths]
        dist.all_gather(rooms, room)
        texts = [r[: int(n)].numpy().tobytes() for r, n in zip(rooms, lengths, strict=True)]
        return [json.loads(text) for text in texts]

    def first_says(self, value: Any) -> Any:
        """What the leading process says; the others' `value` is not looked at."""
        return self.tell_all(value if self.leads else None)[0] if self.size > 1 else value

    @contextmanager
    def together(self) -> Iterator[None]:
        """What is refused to one process ends all, and the leading one says why.

        Raises:
            PeerError: in the others.
        """
        if self.size == 1:
            yield
            return
        error: Exception | None = None
        try:
            yield
        except (CropfirstError, OSError) as raised:
            error = raised
        said = self.tell_all(None if error is None else f"on {socket.gethostname()}: {error}")
        if not any(said):
            return
        if not self.leads:
            raise PeerError(SAID_BY_FIRST) from error
        if error is not None:
            raise error
        rank, text = next((rank, text) for rank, text in enumerate(said) if text is not None)
        raise TrainError(f"process {rank + 1} of {self.size} {text}")

    def check_same(self, facts: Mapping[str, str]) -> None:
        """Refuse processes that are not about the same work; `facts` are name -> what there is.

        Raises:
            TrainError: they differ.
            PeerError: in all processes but the first.
        """
        first, *others = self.tell_all(dict(facts))
        for rank, other in enumerate(others, 1):
            wrong = [name for name in first if other[name] != first[name]]
            if wrong and not self.leads:
                raise PeerError(SAID_BY_FIRST)
            if wrong:
                what = ", ".join(f"{name} {other[name]}, not {first[name]}" for name in wrong)
                raise TrainError(
                    f"process {rank + 1} of {self.size} has {what}: all must see the same files, "
                    "with the same versions"
                )

    def gather(self, rows: Tensor, n: int) -> Tensor:
        """The rows of a whole batch; gradients go to this process's own alone.

        Args:
            rows: (own, K) of this process, or (1, K) where it has no part in the batch.
            n: crops of the whole batch, shared out by `part_of`.

        Returns:
            (n, K), the same in all processes.
        """
        parts = [len(part_of(n, (rank, self.size))) for rank in range(self.size)]
        own = rows[: parts[self.rank]]
        room = rows.new_zeros((max(parts), rows.shape[1]), requires_grad=False)
        room[: len(own)] = own.detach()
        rooms = [torch.empty_like(room) for _ in parts]
        dist.all_gather(rooms, room)
        found = [each[:length] for each, length in zip(rooms, parts, strict=True)]
        found[self.rank] = own
        return torch.cat(found)

    def whole_batch(
        self, outputs: Mapping[str, Tensor], soft: Mapping[str, Tensor], n: int
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Outputs and soft targets of a whole batch, task -> (own, ...) float to (n, ...)."""
        tables = [*(each.float() for each in outputs.values()), *soft.values()]
        whole = self.gather(torch.cat(tables, dim=1), n).split([t.shape[1] for t in tables], dim=1)
        both = len(outputs)
        return (
            dict(zip(outputs, whole[:both], strict=True)),
            dict(zip(soft, whole[both:], strict=True)),
        )

    def same_buffers(self, model: nn.Module) -> None:
        """Give a model the leading process's statistics of batch norm."""
        if self.size > 1:
            for buffer in model.buffers():
                dist.broadcast(buffer, 0)

    def wrap(self, model: nn.Module, *, image_size: int) -> nn.Module:
        """DDP around a model: gradients become the mean over the processes.

        What is frozen now stays out of it. The weights become those of the leading process.
        """
        device = next(model.parameters()).device
        return nn.parallel.DistributedDataParallel(
            model,
            device_ids=[device] if device.type == "cuda" else None,
            find_unused_parameters=_some_unused(model, image_size=image_size),
        )


ALONE = Team()


def _some_unused(model: nn.Module, *, image_size: int) -> bool:
    """Whether some weights have no part in the outputs: DDP must be told. Changes nothing."""
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    weights = [each for each in model.parameters() if each.requires_grad]
    device = weights[0].device
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        images = torch.zeros(2, 3, image_size, image_size, device=device)
        outputs = model.forward(images)  # not by a call, which might be compiled
        total = torch.stack([each.float().sum() for each in outputs.values()]).sum()
        slopes = torch.autograd.grad(total, weights, allow_unused=True)
    for name, buffer in model.named_buffers():
        buffer.copy_(before[name])
    return any(slope is None for slope in slopes)


def not_yet(network: nn.Module, *, wait: bool) -> AbstractContextManager[Any]:
    """Where gradients of several batches are summed, DDP averages them at the last."""
    if wait and isinstance(network, nn.parallel.DistributedDataParallel):
        return network.no_sync()
    return nullcontext()


@contextmanager
def join_team() -> Iterator[Team]:
    """Find the other processes that the launcher has started, by its environment variables.

    Raises:
        TrainError: they are not found.
        PeerError: one of them has ended or is stuck, then or later.
    """
    environment = os.environ
    if "TORCHELASTIC_RUN_ID" in environment:
        end_with_parent()
    try:
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo", timeout=PATIENCE
        )
    except (RuntimeError, ValueError) as error:
        raise TrainError(
            f"the {environment['WORLD_SIZE']} processes do not find each other at "
            f"{environment.get('MASTER_ADDR')}:{environment.get('MASTER_PORT')} "
            f"({first_line(error)}): start them with accelerate launch"
        ) from error
    rank, size = dist.get_rank(), dist.get_world_size()
    # A fork beside gloo's threads leaves a child that hangs when one of them was being made known
    # to Python at that moment (CPython 3.11: the lock on the list of threads stays taken).
    multiprocessing.set_start_method("forkserver", force=True)
    team = Team(
        rank,
        size,
        place=int(environment.get("LOCAL_RANK", rank)),
        here=int(environment.get("LOCAL_WORLD_SIZE", size)),
    )
    try:
        yield team
    except RuntimeError as error:
        if not isinstance(error, dist.DistError) and "/gloo/" not in str(error):
            raise
        late = "timed out" in str(error).lower()
        what = f"was not heard of for {PATIENCE.total_seconds():.0f} s" if late else "has ended"
        raise PeerError(
            f"another of the {size} processes {what}; it may have said why, or the system's log "
            "may. What was finished is kept: run the same command to go on"
        ) from error
    dist.destroy_process_group()
