"""PyTorch scripts that were written for FlorDB: recorded, asked for more, and compared with retraining, bit for bit."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from flor_runtime.store.runlog import keyed, read
from tests.runtime.processes import FLOR, Folder, assert_same

DATA = """\
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

def data(batch_size, shuffle):
    made = torch.Generator().manual_seed(5)
    x = torch.randn(96, 6, generator=made)
    return DataLoader(TensorDataset(x, (x.sum(1) > 0).long()), batch_size=batch_size, shuffle=shuffle)
"""

#: For FlorDB 2.7.1; its loader had to be made an iterator by hand.
KIT = (
    DATA
    + """\
import flor
from flor import MTK as Flor

device = torch.device("cpu")
hidden = flor.arg("hidden", default=50)
epochs = flor.arg("epochs", 3)
batch_size = flor.arg("batch_size", 16)
torch.manual_seed(flor.arg("seed", 3))
train_loader, test_loader = data(batch_size, True), data(32, False)
model = nn.Sequential(nn.Linear(6, hidden), nn.BatchNorm1d(hidden), nn.ReLU(), nn.Dropout(0.2), nn.Linear(hidden, 2))
model = model.to(device)
criterion = nn.CrossEntropyLoss()
optimizer = torch.optim.Adam(model.parameters(), lr=flor.arg("lr", 1e-2))
# before
Flor.checkpoints(model, optimizer)
for epoch in Flor.loop(range(epochs)):
    model.train()
    for i, (x, y) in Flor.loop(enumerate(train_loader)):
        outputs = model(x)
        loss = criterion(outputs, y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        # inner
        if (i + 1) % 3 == 0:
            print("Epoch [{}/{}], Step {}, Loss: {:.6f}".format(epoch + 1, epochs, i + 1, flor.log("loss", loss.item())))
    # outer
model.eval()
with torch.no_grad():
    correct = 0
    for x, y in test_loader:
        correct += (model(x).argmax(1) == y).sum().item()
# after
print(correct)
"""
)

#: For FlorDB 3 and 4, with what scripts have beside it.
LOOPS = (
    DATA
    + """\
import argparse
import flordb as flor
from tqdm import tqdm

flor_epochs = flor.arg("epochs", 3)
parser = argparse.ArgumentParser()
parser.add_argument("--batch-size", type=int, default=16)
args, _ = parser.parse_known_args()
torch.manual_seed(flor.arg("seed", 3))
net = nn.Sequential(nn.Linear(6, flor.arg("hidden", 50)), nn.ReLU(), nn.Dropout(0.2), nn.Linear(flor.arg("hidden", 50), 2))
optimizer = torch.optim.SGD(net.parameters(), lr=flor.arg("lr", 1e-1), momentum=0.9)
scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.1, total_steps=200)
scaler = torch.amp.GradScaler("cpu", enabled=False)
criterion = nn.CrossEntropyLoss()
history = []
# before

def train(loader):
    running = 0.0
    for step, (x, y) in flor.loop("step", enumerate(tqdm(loader, disable=True))):
        if step == 5:
            break
        optimizer.zero_grad()
        loss = criterion(net(x), y)
        if step == 2:
            continue
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        scheduler.step()
        running += flor.log("loss", loss.item())
        # inner
    return running

def main():
    best = 0.0
    train_loader, test_loader = data(args.batch_size, True), data(32, False)
    with flor.checkpointing(model=net, optimizer=optimizer, scheduler=scheduler, scaler=scaler):
        for epoch in tqdm(flor.loop("epoch", range(flor_epochs)), disable=True):
            history.append(train(train_loader))
            with torch.no_grad():
                right = sum((net(x).argmax(1) == y).sum().item() for x, y in test_loader)
            best = max(best, flor.log("val_acc", right / 96))
            # outer
            print(epoch, history, best, torch.rand(1).item())
    return best

correct = main()
flor.commit()
# after
print(correct)
"""
)
STATEMENTS = {
    "before": "flor.log('device', str(next({net}.parameters()).device))",
    "inner": "flor.log('grad_norm', sum(p.grad.norm().item() for p in {net}.parameters()))",
    "outer": "flor.log('weights', sum(p.sum().item() for p in {net}.parameters())); print('seen', epoch)",
    "after": "flor.log('accuracy', correct)",
}
NAMES = ["device", "grad_norm", "weights", "accuracy"]


def with_statements(source: str, *places: str) -> str:
    net = "model" if "MTK" in source else "net"
    for place in places:
        source = source.replace(f"# {place}\n", STATEMENTS[place].format(net=net) + "\n")
    return source


@pytest.mark.proof
@pytest.mark.parametrize("source", [KIT, LOOPS], ids=["2.7.1", "4.0"])
def test_as_retraining(tmp_path: Path, source: str) -> None:
    folder = Folder(tmp_path)
    folder.env |= {"FLOR_EPSILON": "1", "OMP_NUM_THREADS": "1"}
    folder.write("train.py", source)
    arguments = ["--hidden", "20", "--epochs", "3"]
    raw = folder.end(folder.start(sys.executable, "train.py", *arguments))
    recorded = folder.end(folder.start(sys.executable, "train.py", "--flor", "first", *arguments))
    assert raw.code == 0, raw
    assert_same(raw, recorded)
    run = folder.run()

    folder.write("train.py", with_statements(source, *STATEMENTS))
    retrained = folder.end(folder.start(sys.executable, "train.py", "--flor", "truth", *arguments))
    assert retrained.code == 0, retrained
    truth = {key: value for key, value in folder.log().items() if key[1] in NAMES}
    assert {name for _, name, _ in truth} == set(NAMES)

    # Today's script as it is, from the checkpoints: the training loop is skipped, what it prints is printed.
    folder.write("train.py", with_statements(source, "outer"))
    shown = folder.end(folder.start(sys.executable, "train.py", "--replay_flor", "--flor", "first"))
    assert shown.code == 0, shown
    assert [line for line in shown.out.split(b"\n") if line.startswith(b"seen")] == [b"seen 0", b"seen 1", b"seen 2"]
    assert b"Loss:" not in shown.out and any(": exact" in line or " exact: " in line for line in shown.ours), shown

    folder.write("train.py", with_statements(source, *STATEMENTS))
    asked = f"import flor; flor.replay({NAMES!r}, 'hidden == 20', 'train.py', runs='first', again=True)"
    replayed = folder.end(folder.start(sys.executable, "-c", asked))
    assert replayed.code == 0, replayed
    replay = run.replays()[-1]
    assert replay.manifest["label"] == "exact"
    found = {key: value for part in replay.parts for key, value in keyed(read(part)).items() if key[1] in NAMES}
    assert found == truth

    # With `flor run` it is what it is by itself: nothing is doubled.
    folder.write("train.py", source)
    again = folder.end(folder.start(FLOR, "run", "train.py", *arguments))
    assert_same(raw, again)
    assert folder.log() == keyed(read(run.log))
