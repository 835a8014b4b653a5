"""The loop in the open: forward, weighted loss, backward, step."""

from collections.abc import Iterator
from itertools import islice

import torch
from torch import Tensor
from tqdm import tqdm

from alsiseg import unet
from alsiseg.dataset import Draws
from alsiseg.devices import Device
from alsiseg.training.processes import ALONE, Processes
from alsiseg.training.settings import TrainingConfig
from alsiseg.training.task import Task
from alsiseg.unet import UNet

STEPS_PER_READING = 32  # on a GPU; every reading waits for it


def adam(network: UNet, config: TrainingConfig, device: Device) -> torch.optim.Adam:
    """Make the published optimiser, in one kernel where that can leave a step out too."""
    return torch.optim.Adam(
        network.parameters(),
        lr=config.learning_rate,
        weight_decay=config.weight_decay,
        amsgrad=True,
        fused=device.type in ("cpu", "cuda"),
    )


def train_epoch(
    network: UNet,
    optimiser: torch.optim.Optimizer,
    task: Task,
    epoch: int,
    device: Device,
    bar: tqdm | None = None,
    *,
    processes: Processes = ALONE,
    n_parts: int = 1,
) -> int:
    """Pass once over the images of an epoch: forward, weighted loss, backward, step.

    Where the device has not the memory for a batch, it is cut into `n_parts` parts whose gradients are added up:
    a step is still that of the whole batch, but the batch norms see the statistics of a part at a time (and the
    images of the attempt that failed once more in their running means).

    Returns
    -------
    n_parts : int
        Parts that the batches were cut into in the end; give it to the next epoch.

    Raises
    ------
    FloatingPointError
        When loss or gradient are not finite: the sentence names the slices. The weights are those before the
        step, on a GPU too, where later steps are left out until the loss is read.
    ValueError
        When the memory is too small for a single image.
    """
    network.train()
    watch = Watch(task, epoch, device, processes)
    leaves_out = bool(optimiser.defaults.get("fused"))  # steps, by `found_inf`, as torch's GradScaler asks for it
    for step, draws in enumerate(task.draws(epoch).batches(task.config.batch)):
        optimiser.zero_grad()
        batch_loss, n_parts = backward(network, task, draws, device, processes, n_parts)
        gradients = [p.grad for p in network.parameters() if p.grad is not None]
        processes.add_up([batch_loss, *gradients])
        watch.see(batch_loss, gradients, len(draws))
        if watch.is_due(step) or not leaves_out:
            watch.read(network, bar)
        optimiser.found_inf = watch.failed if leaves_out else None  # type: ignore[attr-defined]
        optimiser.step()
        if bar is not None:
            bar.update(len(draws))
    watch.read(network, bar)
    return n_parts


def backward(
    network: UNet, task: Task, draws: Draws, device: Device, processes: Processes, n_parts: int
) -> tuple[Tensor, int]:
    """Add the gradient of this process's share of a batch, in as many parts as the memory asks for.

    Returns
    -------
    batch_loss : () float32 tensor
        This process's part of the mean over the whole batch.
    n_parts : int
    """
    share = processes.share(draws)
    while True:
        try:
            batch_loss = torch.zeros((), device=device.name)
            for part in parts(share, n_parts):
                part_loss = forward(network, task, part, device) * (len(part) / len(draws))
                part_loss.backward()
                batch_loss += part_loss.detach()
            return batch_loss, n_parts
        except torch.OutOfMemoryError as error:
            n_parts = more_parts(n_parts, len(share), device, processes, error)
        network.zero_grad()
        device.free()
        tqdm.write(f"{device.name} has not the memory for the batch at once: it is cut into {n_parts} parts")


def forward(network: UNet, task: Task, draws: Draws, device: Device) -> Tensor:
    """Loss of the drawn images: mean over them of the sums over their pixels."""
    dropout_key_b = torch.from_numpy(draws.noise_key).to(device.name, non_blocking=True)
    if not len(draws):  # a process without images: no loss, yet its batch norms take part in the exchanges
        shape_bcyx = (0, task.config.unet.n_slices, task.training_crop_px, task.training_crop_px)
        return network(torch.empty(shape_bcyx, device=device.name), dropout_key_b).sum()
    grey_bcyx, labels_byx, weight_byx = task.images(draws)
    with device.autocast():
        logits_bcyx = network(device.images(grey_bcyx), dropout_key_b)
    return task.loss(logits_bcyx, labels_byx, weight_byx)


def parts(draws: Draws, n_parts: int) -> Iterator[Draws]:
    """Cut a batch into parts of about equal size; an empty one stays one part."""
    n_parts = max(1, min(n_parts, len(draws)))
    return (draws.share(part, n_parts) for part in range(n_parts))


def more_parts(n_parts: int, n_images: int, device: Device, processes: Processes, error: torch.OutOfMemoryError) -> int:
    """Halve the images at a time, or say why that does not help."""
    if processes.n > 1:  # the others are in the middle of the batch's exchanges
        raise ValueError(
            f"process {processes.rank} has not the memory for its {n_images} images of a batch; "
            "start more processes or use a smaller --batch"
        ) from error
    if n_parts >= n_images:
        raise ValueError(f"{device.name} has not the memory for one image; use a smaller --width") from error
    return min(2 * n_parts, n_images)


class Watch:
    """Loss and failures of an epoch: kept on the device, and read seldom, because reading waits for the device.

    Attributes
    ----------
    failed : () float32 tensor
        1 since a loss or gradient was not finite, 0 before; the optimiser leaves its steps out then.
    """

    def __init__(self, task: Task, epoch: int, device: Device, processes: Processes) -> None:
        self.task, self.epoch, self.device, self.processes = task, epoch, device, processes
        self.failed, self.n_good_steps, self.loss_sum = torch.zeros(3, device=device.name)
        self.n_images = 0

    def see(self, batch_loss: Tensor, gradients: list[Tensor], n_images: int) -> None:
        """Note the loss of a step, and whether the step may be made."""
        size = torch.nn.utils.get_total_norm(gradients) + batch_loss
        self.failed = torch.maximum(self.failed, (~torch.isfinite(size)).float())
        self.n_good_steps = self.n_good_steps + 1 - self.failed
        self.loss_sum = self.loss_sum + batch_loss * n_images
        self.n_images += n_images

    def is_due(self, step: int) -> bool:
        """Whether to read after this step: always where it costs nothing, and in all processes after the same."""
        return self.device.type != "cuda" or (step + 1) % STEPS_PER_READING == 0

    def read(self, network: UNet, bar: tqdm | None) -> None:
        """Show the mean loss of the epoch so far, or say where it stopped being finite."""
        if self.failed.item():
            self._name_the_slices(network)
        if bar is not None:
            loss = self.loss_sum.item() / (self.n_images * self.task.training_crop_px**2)
            bar.set_postfix_str(f"epoch {self.epoch}, loss {loss:.3f}", refresh=False)

    def _name_the_slices(self, network: UNet) -> None:
        step = int(self.n_good_steps.item())
        draws = next(islice(self.task.draws(self.epoch).batches(self.task.config.batch), step, None))
        found = spoilt_slices(network, self.task, self.processes.share(draws), self.device)
        spoilt = {place for share in self.processes.gather(found) for place in share} or set(places(draws))
        numbers = ", ".join(self.task.views[view].name(z) for view, z in sorted(spoilt))
        with self.processes.agreed():
            raise FloatingPointError(
                f"needs a finite loss, found none in step {step + 1} of epoch {self.epoch} on an image from slice "
                f"{numbers} (counted from 1); look at the grey values there, or use a smaller learning rate"
            )


def places(draws: Draws) -> list[tuple[int, int]]:
    """View and middle slice of every image."""
    return list(zip(draws.view.tolist(), draws.z.tolist(), strict=True))


def spoilt_slices(network: UNet, task: Task, draws: Draws, device: Device) -> list[tuple[int, int]]:
    """View and middle slice of the images whose own loss is not finite, each alone through a copy of the network."""
    alone = device.place(unet.build(network.config, seed=0)).train()
    alone.load_state_dict(network.state_dict())
    with torch.no_grad():
        images = [image for image in draws.batches(1) if not forward(alone, task, image, device).isfinite()]
    return [place for image in images for place in places(image)]
