"""What this machine trains with: the device, the base model, and how training fits into its memory."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass
from pathlib import Path

from barnraise.contract.charter import Charter
from barnraise.contract.invite import Invite
from barnraise.core.errors import ModelUnavailable, SpecError
from barnraise.models.causal_lm import model_shape
from barnraise.models.trainable import layout
from barnraise.network.blobs.rate_limiter import RateLimiter
from barnraise.rehearsal.outcomes import StepFailed
from peer.archive.base_model import BaseFinder
from peer.archive.opening import open_archive
from peer.timing import Timing
from peer.training.device import Device, free_memory, instead_of, pick_device
from peer.training.memory_fit import Fit, Processor, fit
from peer.training.quantized_weights import has_four_bit
from peer.training.trainer import Trainer
from peer.volunteer.first_rehearsal import invalid_run
from peer.volunteer.join_options import JoinDisplays, JoinSettings
from peer.volunteer.waiting import persist

log = logging.getLogger("peer")


@dataclass(frozen=True)
class Machine:
    """What this machine trains with."""

    base: Path
    """The folder of the base model."""
    device: Device
    fit: Fit


async def prepare(
    invite: Invite,
    seed: str,
    charter: Charter,
    cache: Path,
    settings: JoinSettings,
    displays: JoinDisplays,
    timing: Timing,
) -> Machine:
    """Choose the device, get the base model, and fit the training into the free memory."""
    device = pick_device(settings.device, settings.threads)
    log.info("training on %s: %s", device.name, displays.render(device.reason))
    limiter = RateLimiter(settings.max_download)

    async def found() -> Path:
        with displays.download as listener:
            finder = BaseFinder(charter, settings.base, cache, listener, time.monotonic, timing, limiter)
            return await finder.find(lambda: open_archive(str(invite), timing=timing, limiter=limiter))

    # What --base names is on this machine: another try changes nothing.
    base = await (persist(found, seed, timing) if settings.base is None else found())
    fitted = await asyncio.to_thread(_fitted, charter, base, device, settings)
    log.info("%s", displays.render(fitted))
    return Machine(base, device, fitted)


async def without_gpu(
    machine: Machine, problem: str, charter: Charter, settings: JoinSettings, displays: JoinDisplays
) -> Machine:
    """The CPU instead of a GPU that failed by `problem`. Raises TooLargeForMemory."""
    log.warning("%s; training continues on the CPU from the last save", problem)
    cpu = instead_of(machine.device, problem, settings.threads)
    fitted = await asyncio.to_thread(_fitted, charter, machine.base, cpu, settings)
    log.info("%s; %s", displays.render(cpu.reason), displays.render(fitted))
    return Machine(machine.base, cpu, fitted)


def load_trainer(machine: Machine, charter: Charter) -> Trainer:
    """Raises InvalidRun where the model cannot be loaded and the coordinator has not tried it."""
    fit = machine.fit
    try:
        return Trainer(
            machine.base,
            charter.spec,
            machine.device,
            fit.micro_batch,
            frozen=fit.frozen,
            checkpointing=fit.checkpointing,
        )
    except (ModelUnavailable, SpecError) as error:
        if charter.rehearsed:
            raise
        raise invalid_run(StepFailed("loading the model", error.problem)) from error


def _fitted(charter: Charter, base: Path, device: Device, settings: JoinSettings) -> Fit:
    """How to train in the memory that is free. Raises TooLargeForMemory before anything large is loaded."""
    target = charter.spec.train.target
    return fit(
        charter.spec,
        model_shape(base),
        layout(base, target).parameters,
        free_memory(device),
        Processor(device.torch_device != "cpu", device.autocast, has_four_bit()),
        micro_batch=settings.micro_batch,
        frozen=settings.frozen,
    )
