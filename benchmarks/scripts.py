"""A training script of any length for the benchmarks: as people write them, with classes, functions and loops."""

from __future__ import annotations

_HEAD = '''\
"""Trains small networks on made-up data; one section a task."""

import argparse
import copy
import json
import logging
import math
import os
import random
import time
from collections import defaultdict
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset

log = logging.getLogger(__name__)


def seed_everything(seed):
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    if torch.cuda.is_available():
        torch.cuda.manual_seed_all(seed)


'''

_SECTION = '''\
# -- NAME ------------------------------------------------------------------------------------------------------------


@dataclass
class NAMEConfig:
    """Options of the task."""

    epochs: int = 20
    batch_size: int = 64
    lr: float = 3e-4
    weight_decay: float = 0.01
    warmup: int = 100
    clip: float = 1.0
    patience: int = 5
    widths: list = field(default_factory=lambda: [64, 128, 128])
    out: str = "runs/NAME"


class NAMEData(Dataset):
    """Points on noisy curves, with the curve as the label."""

    def __init__(self, split, n, classes=8, noise=0.1, transform=None):
        generator = np.random.default_rng({"train": 0, "val": 1, "test": 2}[split])
        self.labels = generator.integers(0, classes, size=n)
        angle = generator.uniform(0, 2 * math.pi, size=(n, 16))
        radius = 1 + self.labels[:, None] / classes
        points = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
        self.points = (points + noise * generator.normal(size=points.shape)).astype("float32")
        self.transform = transform

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        point, label = self.points[index], int(self.labels[index])
        if self.transform is not None:
            point = self.transform(point)
        return torch.from_numpy(point), label


class NAMEBlock(nn.Module):
    def __init__(self, inputs, outputs, dropout=0.1):
        super().__init__()
        self.conv = nn.Conv1d(inputs, outputs, kernel_size=3, padding=1)
        self.norm = nn.BatchNorm1d(outputs)
        self.drop = nn.Dropout(dropout)
        self.skip = nn.Conv1d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x):
        return self.skip(x) + self.drop(F.gelu(self.norm(self.conv(x))))


class NAMENet(nn.Module):
    """Blocks, an attention pool and a head."""

    def __init__(self, config, classes=8):
        super().__init__()
        blocks, width = [], 2
        for each in config.widths:
            blocks.append(NAMEBlock(width, each))
            width = each
        self.blocks = nn.Sequential(*blocks)
        self.score = nn.Conv1d(width, 1, 1)
        self.head = nn.Linear(width, classes)
        self.apply(self._init)

    @staticmethod
    def _init(module):
        if isinstance(module, (nn.Conv1d, nn.Linear)):
            nn.init.trunc_normal_(module.weight, std=0.02)
            if module.bias is not None:
                nn.init.zeros_(module.bias)

    def forward(self, x):
        x = self.blocks(x)
        weight = torch.softmax(self.score(x), dim=-1)
        return self.head((x * weight).sum(-1))


class NAMEMeter:
    """A running mean by name."""

    def __init__(self):
        self.sums = defaultdict(float)
        self.counts = defaultdict(int)

    def update(self, n=1, **values):
        for key, value in values.items():
            self.sums[key] += float(value) * n
            self.counts[key] += n

    def means(self):
        return {key: self.sums[key] / max(1, self.counts[key]) for key in self.sums}

    def reset(self):
        self.sums.clear()
        self.counts.clear()


def NAME_jitter(point, scale=0.05):
    return (point + scale * np.random.randn(*point.shape)).astype("float32")


def NAME_loaders(config):
    loaders = {}
    for split, n in (("train", 4096), ("val", 512), ("test", 512)):
        data = NAMEData(split, n, transform=NAME_jitter if split == "train" else None)
        loaders[split] = DataLoader(data, batch_size=config.batch_size, shuffle=split == "train", drop_last=True)
    return loaders["train"], loaders["val"], loaders["test"]


def NAME_parameter_groups(model, weight_decay):
    decay, rest = [], []
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        if parameter.ndim < 2 or name.endswith("bias"):
            rest.append(parameter)
        else:
            decay.append(parameter)
    return [{"params": decay, "weight_decay": weight_decay}, {"params": rest, "weight_decay": 0.0}]


def NAME_schedule(optimizer, config, steps):
    def factor(step):
        if step < config.warmup:
            return (step + 1) / config.warmup
        done = (step - config.warmup) / max(1, steps - config.warmup)
        return 0.5 * (1 + math.cos(math.pi * min(1.0, done)))

    return torch.optim.lr_scheduler.LambdaLR(optimizer, factor)


def NAME_accuracy(logits, target, topk=(1,)):
    with torch.no_grad():
        _, found = logits.topk(max(topk), dim=1)
        hits = found.eq(target[:, None])
        return [100.0 * hits[:, :k].any(1).float().mean() for k in topk]


@torch.no_grad()
def NAME_update_average(average, model, decay=0.999):
    for kept, current in zip(average.parameters(), model.parameters()):
        kept.mul_(decay).add_(current, alpha=1 - decay)
    for kept, current in zip(average.buffers(), model.buffers()):
        kept.copy_(current)


def NAME_train_epoch(model, average, loader, optimizer, scheduler, scaler, meter, config, device, epoch):
    model.train()
    began, seen = time.time(), 0
    for index, (points, target) in enumerate(loader):
        points, target = points.to(device, non_blocking=True), target.to(device, non_blocking=True)
        if random.random() < 0.5:
            mixed = np.random.beta(0.2, 0.2)
            order = torch.randperm(points.size(0), device=device)
            points = mixed * points + (1 - mixed) * points[order]
        else:
            mixed, order = 1.0, None
        with torch.autocast(device.type, enabled=scaler.is_enabled()):
            logits = model(points)
            loss = F.cross_entropy(logits, target)
            if order is not None:
                loss = mixed * loss + (1 - mixed) * F.cross_entropy(logits, target[order])
        if not math.isfinite(loss.item()):
            log.warning("epoch %d, batch %d: the loss is %s", epoch, index, loss.item())
            continue
        optimizer.zero_grad(set_to_none=True)
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        norm = nn.utils.clip_grad_norm_(model.parameters(), config.clip)
        scaler.step(optimizer)
        scaler.update()
        scheduler.step()
        NAME_update_average(average, model)
        (top1,) = NAME_accuracy(logits, target)
        meter.update(points.size(0), loss=loss, norm=norm, top1=top1)
        seen += points.size(0)
        if index % 20 == 0:
            rate = seen / (time.time() - began)
            lr = optimizer.param_groups[0]["lr"]
            print(f"NAME {epoch} [{index}/{len(loader)}] loss {loss.item():.4f} {rate:.0f}/s lr {lr:.2e}")
    return meter.means()


@torch.no_grad()
def NAME_evaluate(model, loader, device):
    model.eval()
    total, correct, seen = 0.0, 0.0, 0
    confusion = torch.zeros(8, 8, dtype=torch.long)
    for points, target in loader:
        points, target = points.to(device), target.to(device)
        logits = model(points)
        total += F.cross_entropy(logits, target, reduction="sum").item()
        found = logits.argmax(1)
        correct += (found == target).sum().item()
        seen += target.numel()
        for true, guess in zip(target.tolist(), found.tolist()):
            confusion[true, guess] += 1
    return {"loss": total / seen, "top1": 100.0 * correct / seen}, confusion


def NAME_save(path, model, optimizer, scheduler, epoch, best):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    state = {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "scheduler": scheduler.state_dict(),
        "epoch": epoch,
        "best": best,
    }
    torch.save(state, path + ".tmp")
    os.replace(path + ".tmp", path)


def NAME_resume(path, model, optimizer, scheduler):
    if not os.path.exists(path):
        return 0, 0.0
    state = torch.load(path, map_location="cpu")
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    scheduler.load_state_dict(state["scheduler"])
    return state["epoch"] + 1, state["best"]


def NAME_main(args):
    config = NAMEConfig(epochs=args.epochs, lr=args.lr)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    train_loader, val_loader, test_loader = NAME_loaders(config)
    model = NAMENet(config).to(device)
    average = copy.deepcopy(model)
    optimizer = torch.optim.AdamW(NAME_parameter_groups(model, config.weight_decay), lr=config.lr)
    scheduler = NAME_schedule(optimizer, config, config.epochs * len(train_loader))
    scaler = torch.cuda.amp.GradScaler(enabled=device.type == "cuda")
    meter = NAMEMeter()
    history, bad = [], 0
    last = os.path.join(config.out, "last.pt")
    start, best = NAME_resume(last, model, optimizer, scheduler) if args.resume else (0, 0.0)
    for epoch in range(start, config.epochs):
        meter.reset()
        trained = NAME_train_epoch(
            model, average, train_loader, optimizer, scheduler, scaler, meter, config, device, epoch
        )
        scores, confusion = NAME_evaluate(average, val_loader, device)
        history.append({"epoch": epoch, **trained, **{f"val_{key}": value for key, value in scores.items()}})
        NAME_save(last, model, optimizer, scheduler, epoch, best)
        if scores["top1"] > best:
            best, bad = scores["top1"], 0
            NAME_save(os.path.join(config.out, "best.pt"), average, optimizer, scheduler, epoch, best)
        else:
            bad += 1
        print(json.dumps(history[-1]))
        if bad >= config.patience:
            print(f"no better for {bad} epochs: stopping")
            break
    scores, confusion = NAME_evaluate(average, test_loader, device)
    print("test", scores, confusion.diag().tolist())
    return history


'''

_TAIL = """\
def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--lr", type=float, default=3e-4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--resume", action="store_true")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO)
    seed_everything(args.seed)
{calls}

if __name__ == "__main__":
    main()
"""

_TASKS = ("Curve", "Spiral", "Ring", "Wave", "Knot", "Shell", "Orbit", "Petal")


def script(lines: int) -> bytes:
    """A script of about so many lines: a section of some 260 for each task."""
    count = max(1, round(lines / (_SECTION.count("\n") + 10)))
    tasks = _TASKS[:count]
    calls = "".join(f"    {task}_main(args)\n" for task in tasks)
    sections = "".join(_SECTION.replace("NAME", task) for task in tasks)
    return (_HEAD + sections + _TAIL.format(calls=calls)).encode()
